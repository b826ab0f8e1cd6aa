"""Every check of the audit, each seen to name what was broken on purpose."""

from __future__ import annotations

from typing import LiteralString, NamedTuple

import pytest

from jobs.audit import CHECKS, audit, examine
from jobs.ledger.database import Connection, connect, sql_files
from tests.ledger.books import DAY, HOUR, T0, Books, Spend


class Damage(NamedTuple):
    """What is done to the books, what the check must say of it, and which other checks see it too."""

    code: str
    act: LiteralString
    subject: str
    expected: str
    found: str
    seen_by: tuple[str, ...] = ()


# Account 1 is `busy`: lot 1 of 100 promotional, lot 2 of 200 bought with charge 1. Event e1 drew 120 of them, e2 asked
# for too much. Account 2 is `quiet`, in the same program; account 3 is `other`, in another. Charge 2, of `quiet`,
# is open.
DAMAGES = [
    Damage(
        "account_lots",
        "update refill.lot set remaining = 179 where lot_id = 2",
        "account busy", "179", "180", ("lot_remaining",),
    ),
    Damage(
        "account_entries",
        "update refill.account set balance = 181 where account_id = 1",
        "account busy", "180", "181", ("account_lots", "program_sides"),
    ),
    Damage(
        "account_chain",
        "update refill.entry set from_balance = 201 where entry_id = 3",
        "entry 3 of account busy", "200", "201",
    ),
    Damage(
        "account_expiry",
        "update refill.account set expires_next = '2027-06-01' where account_id = 1",
        "account busy", "at most 2027-02-05 00:00:00+00", "2027-06-01 00:00:00+00",
    ),
    Damage(
        "account_watch",
        "update refill.account set recharge_below = 500 where account_id = 1",
        "account busy", "a row in refill.watch", "none, at balance 180 below 500",
    ),
    Damage(
        "account_silence",
        "update refill.account set idle_expires_at = '2027-06-01' where account_id = 1",
        "account busy", "looked at by 2027-06-01 00:00:00+00", "never",
    ),
    Damage(
        "lot_granted",
        "update refill.lot set granted = 201, remaining = 181 where lot_id = 2",
        "lot 2", "201", "200", ("account_lots",),
    ),
    Damage(
        "lot_remaining",
        "update refill.lot set remaining = case lot_id when 1 then 1 else 179 end where account_id = 1",
        "lot 1", "0", "1",
    ),
    Damage(
        "lot_charge",
        "update refill.charge_line set lot_id = null where charge_id = 1",
        "lot 2", "exactly 1 line of a settled charge", "0, charge 1", ("charge_grant",),
    ),
    Damage(
        "entry_id",
        "update refill.entry set entry_id = 1 where entry_id = 5",
        "entry 1", "one entry", "2 entries",
    ),
    Damage(
        "archive_carried",
        "insert into refill.entry_archive (month, since, until, file, sha256, bytes, rows, credits, archived_by)"
        " values ('2020-01', '2020-01-01', '2020-02-01', 'f', '', 1, 1, 5, 'me')",
        "archive 1 of 2020-01", "1 entries of 5 credits, and no partition", "0 entries of 0 credits",
    ),
    Damage(
        "entry_sides",
        "update refill.entry set program_id = 2 where entry_id = 1",
        "entry 1, side 1", "a side of program 2", "account busy of program 1", ("program_sides",),
    ),
    Damage(
        "entry_lot",
        "update refill.entry set lot_id = 99 where entry_id = 4",
        "entry 4", "a lot of side 1 or -9", "no lot 99", ("lot_remaining",),
    ),
    Damage(
        "program_sides",
        "delete from refill.entry where entry_id = 2",
        "program mail", "0", "200", ("account_chain", "account_entries", "charge_grant", "lot_granted"),
    ),
    Damage(
        "spend_accepted",
        "update refill.spend_event set amount = 119 where event_id = 'e1'",
        "spend event e1", "119 from account 1, leaving 180", "120 from account 1, leaving 180",
    ),
    Damage(
        "spend_carried",
        "insert into refill.entry_archive (month, since, until, file, sha256, bytes, rows, credits, archived_by)"
        " values ('2026-01', '2026-01-01', '2026-02-01', 'f', '', 0, 0, 0, 'me')",
        "account busy", "1 archived spends of 120", "0 of 0",
    ),
    Damage(
        "spend_refused",
        "update refill.spend_event set outcome = 'account_closed' where event_id = 'e1'",
        "spend event e1 (account_closed)", "no entry", "100 in entry 3",
    ),
    Damage(
        "spend_entry",
        "update refill.entry set event_id = 'e9' where entry_id in (3, 4)",
        "entry 3", "spend event e9", "no such event", ("spend_accepted",),
    ),
    Damage(
        "spend_account",
        "update refill.spend_event set account_id = 3 where event_id = 'e2'",
        "spend event e2", "an account of program 1", "account other of program 3",
    ),
    Damage(
        "charge_grant",
        "update refill.charge_line set credits = 199 where charge_id = 1",
        "charge 1, line 1",
        "1 grant of 199 to account 1 for 1000 as lot 2", "1 grants of 200 to account 1 for 1000 as lot 2",
    ),
    Damage(
        "charge_unsettled",
        "update refill.charge set state = 'declined' where charge_id = 1",
        "entry 2", "a settled charge with a line for account 1", "charge 1 is declined",
        ("invoice_charge", "lot_charge"),
    ),
    Damage(
        "charge_totals",
        "update refill.charge set tax_minor = 100, amount_minor = 1100 where charge_id = 1",
        "charge 1", "net 1000, tax 0, total 1000", "net 1000, tax 100, total 1100", ("charge_invoice",),
    ),
    Damage(
        "charge_account",
        "update refill.charge set currency = 'EUR' where charge_id = 2",
        "charge 2, line 1", "an account of organisation 1 in program 1, in USD",
        "account quiet of organisation 1 in program 1, in EUR",
    ),
    Damage(
        "charge_open",
        "update refill.charge_line set open = false where charge_id = 2",
        "charge 2, line 1", "open, as the charge is reserved", "closed",
    ),
    Damage(
        "charge_invoice",
        "update refill.invoice set net_minor = 900, amount_minor = 900",
        "charge 1", "1 invoice: net 1000, tax 0, total 1000 USD", "1: mail-2026-1 net 900, tax 0, total 900 USD",
    ),
    Damage(
        "invoice_charge",
        "update refill.invoice set charge_id = 2",
        "invoice mail-2026-1", "a settled charge", "charge 2 is reserved", ("charge_invoice",),
    ),
    Damage(
        "invoice_numbers",
        "update refill.invoice set number = 2",
        "invoices of program mail in 2026", "number 1", "mail-2026-1 after 0",
    ),
    Damage(
        "attempt_in_flight",
        "insert into refill.attempt (charge_id, fingerprint, is_reattempt, request, reserved_at)"
        " select 2, 'fp', false, '{}', now() from generate_series(1, 2)",
        "card fp", "at most 1 attempt in flight", "2, of charges 2, 2",
    ),
    Damage(
        "event_sequence",
        "update refill.event_log set seq = event_log_id + 1",
        "event 2", "seq 1", "seq 2 after 0",
    ),
    Damage(
        "message_depleted",
        "delete from refill.message where kind = 'depleted'",
        "account drained at 2026-01-01 00:00:00+00", "1 messages", "0 messages",
    ),
    Damage(
        "message_low",
        "delete from refill.message where kind = 'low'",
        "account drained at 2026-01-01 00:00:00+00", "a message then or in the day before", "none",
    ),
    Damage(
        "message_recharge",
        "update refill.charge set reason = 'recharge' where charge_id = 1",
        "charge 1 to account busy", "1 message", "0 messages",
    ),
    Damage(
        "row_account",
        "update refill.event_log set account_id = 99 where event_log_id = 1",
        "event 1 of account 99", "an account", "none",
    ),
]  # fmt: skip


@pytest.fixture
def ledger(broken_books: Books) -> Books:
    """Right books, which the database no longer guards."""
    books = broken_books
    books.open("busy")
    books.open("quiet")
    books.open("other", "sms")
    books.grant("busy", 100, expires_at=T0 + 365 * DAY)
    books.buy("busy", 200, expires_at=T0 + 400 * DAY)
    books.post(Spend("e1", "busy", 120), Spend("e2", "busy", 181))
    books.reserve("quiet", 50)
    books.open("drained", alert_below=50)
    books.grant("drained", 100)
    books.spend("drained", 60)
    books.spend("drained", 40)
    assert books.audit(now=T0) == []
    _unguard(books.connection)
    return books


def _unguard(connection: Connection) -> None:
    connection.execute("set session_replication_role = replica")
    connection.execute("drop index refill.attempt_in_flight")
    connection.execute(
        """
        do $$ declare c record; begin
            for c in select case when contypid = 0 then 'table ' || conrelid::regclass
                                 else 'domain ' || contypid::regtype end as t, conname from pg_constraint
                     where connamespace = 'refill'::regnamespace and contype = 'c' and coninhcount = 0 loop
                execute format('alter %s drop constraint %I', c.t, c.conname);
            end loop;
        end $$
        """
    )


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.code for damage in DAMAGES])
def test_the_audit_names_what_is_broken(ledger: Books, damage: Damage) -> None:
    ledger.run(damage.act)
    findings = ledger.audit(now=T0)
    named = [(f.subject, f.expected, f.found) for f in findings if f.check.code == damage.code]
    assert (damage.subject, damage.expected, damage.found) in named
    assert {f.check.code for f in findings} == {damage.code, *damage.seen_by}


def test_every_check_is_broken_once() -> None:
    assert [damage.code for damage in DAMAGES] == [check.code for check in CHECKS if not check.advisory]


def test_every_query_is_a_check() -> None:
    assert {query.name for query in sql_files("audit")} == {check.code for check in CHECKS}


def test_an_account_below_its_trigger_may_wait_for_its_open_charge(ledger: Books) -> None:
    ledger.change("quiet", recharge_below=500)
    assert not ledger.is_watched("quiet")
    assert ledger.audit(now=T0) == []


def test_a_thing_that_is_missing_is_named_too(ledger: Books) -> None:
    ledger.run("delete from refill.account where name = 'quiet'")
    ledger.run("delete from refill.charge where charge_id = 1")
    ledger.run("update refill.entry set event_id = null where entry_id in (3, 4)")
    ledger.run("update refill.spend_event set account_id = 99 where event_id = 'e2'")
    found = {(f.check.code, f.subject, f.found) for f in ledger.audit(now=T0)}
    assert {
        ("invoice_charge", "invoice mail-2026-1", "no charge 1"),
        ("charge_unsettled", "entry 2", "no charge 1"),
        ("spend_accepted", "spend event e1", "no entry"),
        ("spend_account", "spend event e2", "no account 99"),
        ("spend_entry", "entry 3", "no such event"),
    } <= found


def test_a_gap_in_the_middle_of_the_invoices_and_a_counter_ahead_of_them_are_told_apart(ledger: Books) -> None:
    ledger.run(
        "insert into refill.invoice select 'mail-2026-' || n, program_id, year, n, n + 10, organisation_id, issued_at,"
        " currency, net_minor, tax_minor, amount_minor, document from refill.invoice, unnest(array[2, 4]) n"
    )
    ledger.run("update refill.invoice_counter set last = 9")
    found = {(f.expected, f.found) for f in ledger.audit(now=T0) if f.check.code == "invoice_numbers"}
    assert found == {("number 3", "mail-2026-4 after 2"), ("number 5", "a counter that stands at 9")}


def test_a_message_without_a_cause_and_a_second_one_within_a_day_are_named(ledger: Books) -> None:
    ledger.run(
        "insert into refill.message (account_id, kind, data, state, next_at, created_at)"
        " select account_id, kind, data, state, next_at, created_at + interval '1 hour' from refill.message"
    )
    found = {(f.subject, f.expected, f.found) for f in ledger.audit(now=T0)}
    later = T0 + HOUR
    assert found == {
        (f"account drained at {later:%Y-%m-%d %H:%M:%S}+00", "0 messages", "1 messages"),
        (f"account drained at {later:%Y-%m-%d %H:%M:%S}+00", "a balance.low event", "a message without one"),
        (
            f"account drained at {later:%Y-%m-%d %H:%M:%S}+00",
            "no message within a day of another",
            f"one at {T0:%Y-%m-%d %H:%M:%S}+00",
        ),
    }


def test_each_check_counts_all_and_shows_some(ledger: Books) -> None:
    ledger.run("update refill.account set balance = balance + 1")
    verdict = next(v for v in examine(ledger.connection, examples=2) if v.check.code == "account_entries")
    assert (verdict.total, len(verdict.findings), verdict.holds) == (4, 2, False)


def test_credit_that_nobody_booked_for_a_day_is_shown_and_is_no_fault(books: Books) -> None:
    books.open("idle")
    lot_id = books.grant("idle", 5, expires_at=T0 + DAY)
    on_time = {v.check.code: v for v in examine(books.connection, T0 + 2 * DAY)}["lot_unswept"]
    late = {v.check.code: v for v in examine(books.connection, T0 + 2 * DAY + HOUR)}["lot_unswept"]
    assert (on_time.total, late.total, late.holds) == (0, 1, True)
    assert late.findings[0].subject == f"lot {lot_id} of account idle"
    assert books.audit(now=T0 + 3 * DAY) == []


def test_the_books_may_move_while_they_are_audited(books: Books, ledger_url: str) -> None:
    books.open("moving")
    books.grant("moving", 1_000)
    with connect(ledger_url) as auditor:
        verdicts = []
        for verdict in examine(auditor):
            books.spend("moving", 1)
            verdicts.append(verdict)
    assert [v.check.code for v in verdicts if v.total] == []
    assert books.balance("moving") == 1_000 - len(CHECKS)


def test_an_audit_cannot_write(books: Books) -> None:
    verdicts = examine(books.connection)
    next(verdicts)
    try:
        assert books.value("select current_setting('transaction_read_only')") == "on"
        assert books.value("select current_setting('transaction_isolation')") == "repeatable read"
    finally:
        verdicts.close()


def test_a_ledger_in_which_nothing_happened_is_right(connection: Connection) -> None:
    assert audit(connection) == []
