"""The expiry sweep: dead credit becomes breakage, in pages, whatever one account does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from jobs.expire import Expired, sweep
from jobs.ledger.database import Connection, connect, fetch_one
from tests.support.seed import count, grant, load_examples, open_account, spend

DEATH = datetime(2031, 1, 1, tzinfo=UTC)
BEFORE = DEATH - timedelta(microseconds=1)


@pytest.fixture
def ledger(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        load_examples(connection)
        yield connection


def dying_accounts(ledger: Connection, number: int) -> list[int]:
    ids = [open_account(ledger, f"mail-{place}", "mail") for place in range(number)]
    for account_id in ids:
        grant(ledger, account_id, 100, DEATH.isoformat())
    return ids


def balance(ledger: Connection, account_id: int) -> int:
    return count(ledger, "select balance from refill.account where account_id = %s", [account_id])


def test_a_lot_dies_at_its_expiry_and_not_before(ledger: Connection) -> None:
    [account_id] = dying_accounts(ledger, 1)
    assert sweep(ledger, now=BEFORE) == Expired()
    assert balance(ledger, account_id) == 100
    assert sweep(ledger, now=DEATH) == Expired(lots=1, credits=100, accounts=1)
    assert balance(ledger, account_id) == 0


def test_what_was_left_of_each_lot_goes_to_breakage_as_one_entry(ledger: Connection) -> None:
    account_id = open_account(ledger, "mail-1", "mail")
    lots = [grant(ledger, account_id, amount, DEATH.isoformat()) for amount in (100, 50)]
    spend(ledger, "mail-1", 30, "e1")
    sweep(ledger, now=DEATH)
    rows = ledger.execute(
        "select lot_id, amount, refill.own_side_name(to_side) from refill.entry where kind = 'expiry' order by lot_id"
    ).fetchall()
    assert rows == [(lots[0], 70, "breakage"), (lots[1], 50, "breakage")]


def test_a_second_sweep_finds_nothing(ledger: Connection) -> None:
    dying_accounts(ledger, 3)
    sweep(ledger, now=DEATH)
    assert sweep(ledger, now=DEATH) == Expired()


def test_every_page_is_a_transaction_of_its_own(ledger: Connection) -> None:
    dying_accounts(ledger, 5)
    assert sweep(ledger, page=2, now=DEATH) == Expired(lots=5, credits=500, accounts=5)
    writers = count(ledger, "select count(distinct xmin::text) from refill.account")
    assert writers == 3


def test_credit_of_a_silent_account_dies_of_inactivity(ledger: Connection) -> None:
    account_id = open_account(ledger, "points-1")
    bought = datetime(2030, 1, 1, tzinfo=UTC)
    grant(ledger, account_id, 500, now=bought)
    assert sweep(ledger, now=bought + timedelta(days=365, seconds=-1)) == Expired()
    assert sweep(ledger, now=bought + timedelta(days=365)) == Expired(lots=1, credits=500, accounts=1)
    assert balance(ledger, account_id) == 0


def test_credit_that_never_expires_is_left_alone(ledger: Connection) -> None:
    grant(ledger, open_account(ledger, "sms-1", "sms"), 10)
    assert sweep(ledger, now=datetime(2999, 1, 1, tzinfo=UTC)) == Expired()


def test_without_a_time_the_database_decides(ledger: Connection) -> None:
    account_id = open_account(ledger, "mail-1", "mail")
    grant(ledger, account_id, 100, "2020-06-01", now=datetime(2020, 1, 1, tzinfo=UTC))
    assert sweep(ledger).credits == 100
    at = fetch_one(ledger, "select at from refill.entry where kind = 'expiry'")[0]
    assert datetime.now(UTC) - at < timedelta(minutes=1)


def test_an_account_that_cannot_be_booked_holds_back_no_other(ledger: Connection) -> None:
    ids = dying_accounts(ledger, 4)
    # A balance that is less than its lots cannot go below zero: the books of this account are broken.
    ledger.execute("update refill.account set balance = 1 where account_id = %s", (ids[1],))
    assert sweep(ledger, page=10, now=DEATH) == Expired(lots=3, credits=300, accounts=3, failed=1)
    assert [balance(ledger, account_id) for account_id in ids] == [0, 1, 0, 0]


def test_an_account_that_somebody_keeps_locked_is_left_for_the_next_sweep(ledger: Connection, database: str) -> None:
    locked, free = dying_accounts(ledger, 2)
    ledger.execute("set lock_timeout = '50ms'")
    with connect(database) as other, other.transaction():
        other.execute("select refill.lock_accounts(%s)", ([locked],))
        assert sweep(ledger, now=DEATH) == Expired(lots=1, credits=100, accounts=1, failed=1)
    assert (balance(ledger, locked), balance(ledger, free)) == (100, 0)
    assert sweep(ledger, now=DEATH).lots == 1
