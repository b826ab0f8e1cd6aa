"""Proves the identities of the ledger and names what breaks them.

Each check is one set-based query, `jobs/ledger/audit/<code>.sql`, that returns what is wrong: the thing concerned, what
was expected of it and what was found. Archived months count by the sums that they left (`refill.movement`). All checks
read one snapshot, so that an audit is right while credit is being spent. Nothing is written and nobody who posts waits
for it; a month that is to be archived or restored waits until it has ended.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter

from jobs.archived import hold_months
from jobs.errors import RefillError
from jobs.ledger.database import Connection, SqlFile, sql_files

EXAMPLES = 10


class AuditFailed(RefillError):
    """The books break an identity of the ledger."""

    code = "audit_failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One identity. An `advisory` one says what deserves a look without being wrong."""

    code: str
    sentence: str
    advisory: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that breaks an identity: `subject` names it, the rest says how, in credits or minor units of money."""

    check: Check
    subject: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check found: how many faults in `total`, of which `findings` are the first few."""

    check: Check
    total: int
    findings: tuple[Finding, ...]
    duration_ms: float

    @property
    def holds(self) -> bool:
        """Whether the books are right in this respect."""
        return self.total == 0 or self.check.advisory


CHECKS = (
    Check("account_lots", "An account's balance is what its lots have left"),
    Check("account_entries", "An account's balance is the sum of its entries"),
    Check("account_chain", "Each entry continues from the balance that the one before it left, never below zero"),
    Check("account_expiry", "No open lot expires before its account's next expiry"),
    Check("account_watch", "Every open account below its trigger waits for the sweep or for its open charge"),
    Check("account_silence", "No account's credit dies of silence before the sweep looks at it"),
    Check("lot_granted", "What a lot was granted is what its entries brought in"),
    Check("lot_remaining", "What a lot has left is what was granted, less draws, plus revivals"),
    Check("lot_charge", "A paid lot is one line of one settled charge"),
    Check("entry_id", "No two entries have the same id"),
    Check("archive_carried", "What an archived month carries is what its archive holds, account by account"),
    Check("entry_sides", "Both sides of an entry exist and belong to its program"),
    Check("entry_lot", "An entry moves a lot of one of its sides"),
    Check("program_sides", "All sides of a program add up to nothing"),
    Check("spend_accepted", "An accepted spend event has entries of exactly its amount and balance"),
    Check("spend_carried", "The accepted spend events of archived months are what was carried, per account"),
    Check("spend_refused", "A refused spend event moved nothing"),
    Check("spend_entry", "No spend is booked without its spend event"),
    Check("spend_account", "A spend event's account exists and belongs to its program"),
    Check("charge_grant", "Each line of a settled charge is granted exactly once, to its account, as it was paid"),
    Check("charge_unsettled", "Nothing is granted as paid without a settled charge"),
    Check("charge_totals", "A charge is the sum of its lines"),
    Check("charge_account", "A charge pays for accounts of its own organisation, program and currency"),
    Check("charge_open", "The lines of a charge are open exactly while it is"),
    Check("charge_invoice", "A settled charge has one invoice, of the same totals"),
    Check("invoice_charge", "There is no invoice without a settled charge"),
    Check("invoice_numbers", "Invoice numbers run without gaps per program and year"),
    Check("attempt_in_flight", "A card has at most one attempt in flight"),
    Check("event_sequence", "Events are numbered without gaps or repeats"),
    Check("message_depleted", "Every depletion is told exactly once"),
    Check("message_low", "Every fall below the alert level is told once, and once a day at most"),
    Check("message_recharge", "Every recharge is told to each of its accounts exactly once"),
    Check("row_account", "Alerts, watched accounts, messages and events are those of accounts that exist"),
    Check("lot_unswept", "No lot has been dead for more than a day without being booked", advisory=True),
)


def audit(connection: Connection, now: datetime | None = None, examples: int = EXAMPLES) -> list[Finding]:
    """Everything that breaks an identity, at most `examples` of each check; empty where the books are right."""
    verdicts = examine(connection, now, examples)
    return [finding for verdict in verdicts if not verdict.holds for finding in verdict.findings]


def examine(
    connection: Connection, now: datetime | None = None, examples: int = EXAMPLES
) -> Generator[Verdict, None, None]:
    """The verdict of each check, one after the other, all of them on the snapshot that the first one sees.

    The connection must not be in a transaction. `now` is the moment by which credit is dead: the database's by default.
    """
    queries = {query.name: query for query in sql_files("audit")}
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        hold_months(connection)
        # Whole tables are read once: worth memory and a second processor, not the time to compile. Never row by row, as
        # the planner would have it for a ledger that was filled a moment ago and has no statistics yet.
        connection.execute("set local work_mem = '64MB'")
        connection.execute("set local jit = off")
        connection.execute("set local enable_nestloop = off")
        connection.execute("select set_config('refill.now', coalesce(%s, now())::text, true)", (now,))
        for check in CHECKS:
            yield _examine(connection, check, queries[check.code], examples)


def _examine(connection: Connection, check: Check, query: SqlFile, examples: int) -> Verdict:
    started = perf_counter()
    rows = connection.execute(_counted(query, examples)).fetchall()
    findings = tuple(Finding(check, subject, expected, found) for _, subject, expected, found in rows)
    return Verdict(check, rows[0][0] if rows else 0, findings, (perf_counter() - started) * 1000)


def _counted(query: SqlFile, examples: int) -> bytes:
    """The first faults by subject, each with the number of all."""
    return b"""
        select count(*) over (), subject::text, expected::text, found::text from (
        %b
        ) fault order by subject limit %d""" % (query.text.encode(), examples)
