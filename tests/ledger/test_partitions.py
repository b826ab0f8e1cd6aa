"""Entries by month: older ledgers are taken over as they are, months are made in time, and no entry changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from jobs import partition
from jobs.ledger.database import connect, migrate, sql_files
from jobs.status import EntryMonths, look
from tests.ledger.books import DAY, T0, Books
from tests.support.databases import temporary_database

FEBRUARY = T0 + 31 * DAY
MARCH = FEBRUARY + 28 * DAY
HISTORY: LiteralString = "select * from refill.entry_history order by entry_id"
FUNCTIONS_OF_0002 = Path(__file__).parent / "releases" / "0002_functions.sql"
SPEND_OF_0002: LiteralString = """
    select refill.post_spend(array[%s], array['a'], array[%s::bigint], null, null, null, null, %s)
"""
PLACES: LiteralString = """
    select (select relname::text from pg_class c where c.oid = e.tableoid), entry_id from refill.entry e order by 2
"""


@pytest.fixture
def url_of_0002(postgres_url: str) -> Iterator[str]:
    """A ledger as the first two migrations made it, with the functions that post."""
    with temporary_database(postgres_url) as url:
        with connect(url) as connection:
            connection.execute(
                "create schema refill; create table refill.migration (name text primary key, digest text not null,"
                " applied_at timestamptz not null default now())"
            )
            for step in sql_files("schema")[:2]:
                connection.execute(step.text.encode())
                connection.execute("insert into refill.migration values (%s, %s)", (step.name, step.digest))
            connection.execute(FUNCTIONS_OF_0002.read_bytes())
        yield url


@pytest.fixture
def books_of_0002(url_of_0002: str) -> Iterator[Books]:
    """Books of that release with entries of January and February."""
    with connect(url_of_0002) as connection:
        books = Books(connection)
        books.open("a")
        books.buy("a", 100)
        books.run(SPEND_OF_0002, ("first", 30, T0 + DAY))
        books.run(SPEND_OF_0002, ("second", 20, FEBRUARY))
        yield books


def test_a_ledger_of_the_release_before_keeps_its_entries_where_they_are(
    books_of_0002: Books, url_of_0002: str
) -> None:
    before = books_of_0002.rows(HISTORY)
    file_before = books_of_0002.value("select pg_relation_filenode('refill.entry')")
    migrate(url_of_0002)
    assert books_of_0002.rows(HISTORY) == before
    assert books_of_0002.value("select pg_relation_filenode('refill.entry_2026_02')") == file_before
    assert books_of_0002.balance("a") == 50
    assert books_of_0002.audit() == []


def test_an_account_of_the_release_before_keeps_its_band(books_of_0002: Books, url_of_0002: str) -> None:
    query: LiteralString = "select name, band, below_trigger from refill.account order by account_id"
    levels = [None, 1, 45, 46, 49, 50, 51, 2**63 - 1]
    for level in levels:
        account = books_of_0002.open(f"level {level}", alert_below=level, recharge_below=level)
        books_of_0002.run("update refill.account set balance = 50 where account_id = %s", (account,))
    before = books_of_0002.rows(query)
    migrate(url_of_0002)
    assert books_of_0002.rows(query) == before
    assert {band for _, band, _ in before} == {1, 2, 3}
    for level in levels:  # and one that is set from now on has the same
        books_of_0002.change(f"level {level}", alert_below=level)
    assert books_of_0002.rows(query) == before


def test_entry_ids_go_on_where_the_release_before_stopped(books_of_0002: Books, url_of_0002: str) -> None:
    newest = books_of_0002.value("select max(entry_id) from refill.entry")
    migrate(url_of_0002)
    books_of_0002.spend("a", 5, "old", now=FEBRUARY + DAY)
    books_of_0002.spend("a", 5, "new", now=None)
    places = dict(
        books_of_0002.rows(
            "select event_id, (select relname::text from pg_class c where c.oid = e.tableoid) from refill.entry e"
        )
    )
    assert places["old"] == "entry_2026_02"
    assert places["new"] == books_of_0002.value("select 'entry_' || to_char(now() at time zone 'UTC', 'YYYY_MM')")
    assert books_of_0002.rows("select entry_id from refill.entry where event_id in ('old', 'new') order by 1") == [
        (newest + 1,),
        (newest + 2,),
    ]
    assert books_of_0002.audit() == []


def test_a_ledger_of_the_release_before_without_entries_is_as_a_new_one(url_of_0002: str, database: str) -> None:
    migrate(url_of_0002)
    query: LiteralString = "select name, since, until from refill.entry_partition order by name"
    with connect(url_of_0002) as old, connect(database) as new:
        assert old.execute(query).fetchall() == new.execute(query).fetchall()


def test_every_partition_refuses_a_change_that_names_it(database: str) -> None:
    with connect(database) as connection:
        names = [name for (name,) in connection.execute("select name from refill.entry_partition")]
        assert len(names) == 5
        for name in names:
            for change in ("delete from", "truncate", "update"):
                act = f"{change} refill.{name}" + (" set memo = memo" if change == "update" else "")
                with pytest.raises(psycopg.errors.RestrictViolation, match="immutable"):
                    connection.execute(act.encode())


def _ensure(books: Books, ahead: int, now: datetime) -> Any:
    return books.value("select refill.ensure_entry_partitions(%s, %s)", (ahead, now))


def test_months_are_made_once(broken_books: Books) -> None:
    assert _ensure(broken_books, 1, T0 + 15 * DAY) == ["entry_2026_01", "entry_2026_02"]
    assert _ensure(broken_books, 1, T0 + 20 * DAY) == []
    assert _ensure(broken_books, 2, T0 + 20 * DAY) == ["entry_2026_03"]


def test_a_month_begins_at_midnight_utc_wherever_the_session_is(broken_books: Books) -> None:
    broken_books.run("set timezone = 'Pacific/Auckland'")
    assert _ensure(broken_books, 0, FEBRUARY - timedelta(microseconds=1)) == ["entry_2026_01"]
    broken_books.run("reset timezone")
    assert broken_books.rows("select since, until from refill.entry_partition where name = 'entry_2026_01'") == [
        (T0, FEBRUARY)
    ]


def test_an_entry_without_a_month_is_posted_and_moved_when_its_month_is_made(broken_books: Books) -> None:
    books = broken_books
    books.open("a")
    books.grant("a", 100, now=T0)
    books.spend("a", 10, now=FEBRUARY)
    books.spend("a", 10, now=MARCH)
    before = books.rows(HISTORY)
    assert {place for place, _ in books.rows(PLACES)} == {"entry_default"}
    assert _ensure(books, 0, MARCH) == ["entry_2026_01", "entry_2026_02", "entry_2026_03"]
    assert [place for place, _ in books.rows(PLACES)] == [f"entry_2026_0{month}" for month in (1, 2, 3)]
    assert books.rows(HISTORY) == before
    assert books.audit() == []
    with pytest.raises(psycopg.errors.RestrictViolation):
        books.run("delete from refill.entry_default")


def test_months_are_made_once_by_many_at_once_while_credit_is_spent(broken_books: Books, database: str) -> None:
    broken_books.open("a")
    broken_books.grant("a", 1_000)
    start = threading.Barrier(4)

    def make(_: int) -> Any:
        with connect(database) as connection:
            start.wait(timeout=30)
            return Books(connection).value("select refill.ensure_entry_partitions(5, %s)", (T0,))

    with ThreadPoolExecutor(3) as pool:
        made = pool.map(make, range(3))
        start.wait(timeout=30)
        for _ in range(20):
            assert broken_books.spend("a", 1).outcome == "accepted"
        assert sorted(map(len, made)) == [0, 0, 6]
    assert broken_books.value("select count(*) from refill.entry_default") == 0
    assert broken_books.value("select count(*) from refill.entry_2026_01") == 21
    assert broken_books.audit() == []


def _months(books: Books) -> EntryMonths:
    return look(books.connection, []).entry_months


def test_status_sees_until_when_months_are_made_and_what_lies_in_none(broken_books: Books) -> None:
    books = broken_books
    made_until = books.value("select max(until) from refill.entry_partition")
    assert _months(books) == EntryMonths(made_until, has_strays=False)
    second = books.value("select name from refill.entry_partition where since > now() order by since limit 1")
    books.connection.execute(f"drop table refill.{second}".encode())
    assert _months(books).until == books.value(
        "select until from refill.entry_partition where now() >= since and now() < until"
    )
    books.open("a")
    books.grant("a", 1, now=T0)
    assert _months(books).has_strays
    partition.ensure(books.connection)
    assert _months(books) == EntryMonths(made_until, has_strays=False)


def test_a_job_that_finds_no_moment_for_a_month_says_so_and_holds_nobody_up(broken_books: Books, database: str) -> None:
    broken_books.open("a")
    broken_books.grant("a", 10)
    with connect(database) as reader, reader.transaction():
        reader.execute("select count(*) from refill.entry")
        with pytest.raises(partition.EntriesBusy) as refusal:
            partition.ensure(broken_books.connection, T0, try_for_s=0.5)
        assert refusal.value.code == "entries_busy"
        assert broken_books.spend("a", 1).outcome == "accepted"
    assert partition.ensure(broken_books.connection, T0) == [f"entry_2026_0{month}" for month in (1, 2, 3, 4)]
    assert broken_books.audit() == []
