"""Each constraint of the schema, seen to refuse what it is there for. The statements are in violations.sql."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tests.ledger.books import T0, Books

_STATEMENTS = Path(__file__).with_name("violations.sql").read_text("utf-8")
VIOLATIONS: list[tuple[str, str]] = re.findall(r"^-- (\w+)\n(.*?);$", _STATEMENTS, re.MULTILINE | re.DOTALL)


@pytest.fixture
def peopled(books: Books) -> Books:
    """Accounts 1 and 2, a settled charge 1 with its lot and invoice, an open charge 2, and event e1."""
    books.open("a")
    books.open("b")
    books.buy("a", 10)
    books.reserve("a", 10)
    books.spend("a", 1, "e1")
    return books


@pytest.mark.parametrize(
    ("constraint", "act"), VIOLATIONS, ids=[f"{name} {n}" for n, (name, _) in enumerate(VIOLATIONS)]
)
def test_what_must_not_be_is_refused_by_its_constraint(peopled: Books, constraint: str, act: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError) as refusal:
        peopled.connection.execute(act.encode())
    assert refusal.value.diag.constraint_name == constraint


def test_a_charge_that_ends_closes_its_lines(peopled: Books) -> None:
    peopled.run("update refill.charge set state = 'declined' where charge_id = 2")
    assert peopled.rows("select distinct open from refill.charge_line") == [(False,)]
    peopled.reserve("a", 10)


def test_a_charge_that_needs_review_keeps_its_line_open(peopled: Books) -> None:
    peopled.run("update refill.charge set state = 'needs_review', detail = 'lost' where charge_id = 2")
    with pytest.raises(psycopg.errors.UniqueViolation):
        peopled.reserve("a", 10)
    assert peopled.value("select opened_at from refill.charge where charge_id = 2") == T0
