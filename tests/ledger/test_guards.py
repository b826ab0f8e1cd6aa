"""What the database itself refuses, whoever asks, and what the roles for other services may do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from tests.ledger.books import Books, Spend

IMMUTABLE = ["entry", "spend_event", "invoice", "policy_change"]
CHANGES: list[LiteralString] = [
    "delete from refill.{table}",
    "truncate refill.{table} cascade",
    "update refill.{table} set {column} = {column}",
]
COLUMNS = {"entry": "memo", "spend_event": "memo", "invoice": "document", "policy_change": "actor"}
VIEWS = ["balance", "entry_history", "spend_outcome", "charge_history", "decision", "event", "quarantine"]
SPEND = "select outcome, balance from refill.spend('a', 10, 'e1')"


@pytest.fixture
def ledger(books: Books) -> Books:
    books.open("a")
    books.grant("a", 100)
    return books


@pytest.mark.parametrize("table", IMMUTABLE)
@pytest.mark.parametrize("change", CHANGES, ids=["delete", "truncate", "update"])
def test_what_is_written_into_the_books_stays(ledger: Books, table: str, change: str) -> None:
    owner = ledger.value("select tableowner from pg_tables where schemaname = 'refill' and tablename = %s", (table,))
    assert ledger.value("select current_user") == owner, "the owner itself is refused"
    with pytest.raises(psycopg.errors.RestrictViolation, match="immutable"):
        ledger.connection.execute(change.format(table=table, column=COLUMNS[table]).encode())


ENTRY = (
    "insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance, to_balance)"
    " values (now(), 'adjustment', {program}, {origin}, {to}, {amount}, 1, {from_balance}, {to_balance})"
)
RIGHT = {"program": "1", "origin": "1", "to": "-9", "amount": "5", "from_balance": "0", "to_balance": "null"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "-5"},
        {"to": "1", "to_balance": "5"},
        {"to": "-17"},
        {"origin": "-17", "from_balance": "null", "to": "1", "to_balance": "5"},
        {"from_balance": "null"},
        {"from_balance": "-1"},
        {"to_balance": "5"},
        {"to": "2", "to_balance": "null"},
        {"to": "2", "to_balance": "-1"},
    ],
    ids=str,
)
def test_an_entry_that_cannot_be_is_refused(ledger: Books, wrong: dict[str, str]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.connection.execute(ENTRY.format(**RIGHT | wrong).encode())


def test_the_entry_that_those_were_made_from_is_one(broken_books: Books) -> None:
    broken_books.connection.execute(ENTRY.format(**RIGHT).encode())
    assert broken_books.value("select count(*) from refill.entry") == 1


def test_a_program_s_own_sides_carry_their_program_and_name(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    rows = connection.execute(
        "select side, refill.own_side_name(side), -side / 8 from unnest(array['sales', 'revenue', 'breakage',"
        " 'refunds', 'promotion']) name, refill.own_side(7, name) side"
    ).fetchall()
    names = ["sales", "revenue", "breakage", "refunds", "promotion"]
    assert rows == [(-(56 + place), name, 7) for place, name in enumerate(names)]


@pytest.fixture
def reader(ledger: Books) -> Iterator[Books]:
    ledger.run("set role refill_read")
    yield ledger
    ledger.run("reset role")


@pytest.fixture
def spender(ledger: Books) -> Iterator[Books]:
    ledger.run("set role refill_spend")
    yield ledger
    ledger.run("reset role")


def _may_see(books: Books) -> list[str]:
    found = books.rows(
        "select c.relname from pg_class c where c.relnamespace = 'refill'::regnamespace"
        " and c.relkind in ('r', 'v', 'p', 'm') and has_table_privilege(c.oid, 'select')"
    )
    return sorted(row[0] for row in found)


def _may_change(books: Books) -> list[str]:
    found = books.rows(
        "select c.relname from pg_class c where c.relnamespace = 'refill'::regnamespace"
        " and (c.relkind in ('r', 'v', 'p') and has_table_privilege(c.oid, 'insert, update, delete, truncate')"
        "      or c.relkind = 'S' and has_sequence_privilege(c.oid, 'usage, update'))"
    )
    return [row[0] for row in found]


def _may_call(books: Books) -> list[str]:
    found = books.rows(
        "select proname from pg_proc where pronamespace = 'refill'::regnamespace"
        " and has_function_privilege(oid, 'execute')"
    )
    return [row[0] for row in found]


def test_the_reading_role_sees_the_views_of_the_contract_and_nothing_else(reader: Books) -> None:
    assert _may_see(reader) == sorted(VIEWS)
    assert (_may_change(reader), _may_call(reader)) == ([], ["newest_entries"])


def test_the_spending_role_may_read_and_spend_and_nothing_else(spender: Books) -> None:
    assert _may_see(spender) == sorted(VIEWS)
    assert (_may_change(spender), sorted(_may_call(spender))) == ([], ["newest_entries", "spend"])


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_can_be_read_by_the_reading_role(reader: Books, view: str) -> None:
    reader.connection.execute(f"select * from refill.{view}".encode())


def test_the_reading_role_is_refused_a_table_and_a_spend(reader: Books) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.run("select * from refill.account")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.run(SPEND)


def test_the_spending_role_spends_and_is_refused_the_tables(spender: Books) -> None:
    assert spender.rows(SPEND) == [("accepted", 90)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        spender.run("update refill.account set balance = 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        spender.post(Spend("e2", "a", 1))


def test_a_function_that_acts_for_its_caller_looks_up_names_in_no_schema_of_the_caller_s(books: Books) -> None:
    found = books.rows(
        "select proname, proconfig from pg_proc where pronamespace = 'refill'::regnamespace and prosecdef"
    )
    assert sorted(name for name, _ in found) == ["newest_entries", "spend"]
    assert all("search_path=pg_catalog, pg_temp" in settings for _, settings in found)


def test_a_caller_s_own_operators_do_not_reach_into_a_spend(ledger: Books) -> None:
    with ledger.connection.transaction(force_rollback=True):
        ledger.run(
            "create schema trap;"
            "create function trap.cheat(bigint, bigint) returns boolean language sql as 'select true';"
            "create operator trap.<= (function = trap.cheat, leftarg = bigint, rightarg = bigint);"
            "set local search_path = trap, pg_catalog"
        )
        assert ledger.value("select 2::bigint <= 1::bigint"), "the trap is set"
        assert ledger.rows("select outcome from refill.spend('a', 101, 'e1')") == [("insufficient_credit",)]
