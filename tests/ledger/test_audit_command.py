"""`refill audit` as it is typed."""

from __future__ import annotations

import json

from jobs.audit import CHECKS
from jobs.ledger.database import connect
from tests.ledger.books import DAY, T0, Books
from tests.support.processes import Processes


def test_right_books_end_with_0_and_a_tick_for_each_check(processes: Processes, books: Books, ledger_url: str) -> None:
    books.open("a")
    books.grant("a", 10)
    audit = processes.refill("audit", environment={"DATABASE_URL": ledger_url})
    assert audit.wait() == 0
    assert [line for line in audit.lines if line.startswith("✓ ")] == [f"✓ {check.sentence}" for check in CHECKS]


def test_wrong_books_end_with_1_and_the_name_of_what_is_wrong(processes: Processes, database: str) -> None:
    with connect(database) as connection:
        Books(connection).open("a")
        Books(connection).change("a", balance=7)
    audit = processes.refill("audit", environment={"DATABASE_URL": database})
    assert audit.wait() == 1
    assert "✗ An account's balance is what its lots have left: 1" in audit.lines
    assert any(line.split() == ["account_lots", "account", "a", "0", "7"] for line in audit.lines)
    assert "[audit_failed]" in audit.lines[-1]


def test_programs_get_one_object_per_check(processes: Processes, database: str) -> None:
    with connect(database) as connection:
        Books(connection).open("a")
        Books(connection).change("a", balance=7)
    audit = processes.refill("audit", "--json", environment={"DATABASE_URL": database})
    assert audit.wait() == 1
    *verdicts, error = [json.loads(line) for line in audit.lines]
    assert [verdict["check"] for verdict in verdicts] == [check.code for check in CHECKS]
    assert verdicts[0]["findings"] == [{"subject": "account a", "expected": "0", "found": "7"}]
    assert (verdicts[0]["holds"], verdicts[0]["count"]) == (False, 1)
    assert error["error"] == "audit_failed"


def test_credit_that_waits_to_be_booked_is_pointed_out_without_failing(
    processes: Processes, books: Books, ledger_url: str
) -> None:
    books.open("a")
    books.grant("a", 10, now=T0 - 800 * DAY, expires_at=T0 - 700 * DAY)
    audit = processes.refill("audit", environment={"DATABASE_URL": ledger_url})
    assert audit.wait() == 0
    assert "! No lot has been dead for more than a day without being booked: 1" in audit.lines
