"""Sweeps and readings look at what they ask for and at nothing else, however large the ledger is.

A table that is read whole, or a join that compares everything with everything, changes no result: the plans that were
carried out are looked at, on a ledger with some thousand rows and true statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import LiteralString

import pytest

from jobs.charge import due_charges
from jobs.expire import Expired, Pace, sweep
from jobs.history import Period, rows
from jobs.ledger.database import Connection, connect, database_now, fetch_one
from jobs.notify import due_messages
from jobs.publish import events_after, last_number, number_events
from jobs.recharge import due_accounts
from jobs.status import look
from tests.bench.dying import fill_dying
from tests.bench.quiet import fill_quiet
from tests.bench.readers import HISTORY, HOLDER, READER, fill_readers
from tests.support.databases import temporary_database
from tests.support.plans import carried_out
from worker.runs import JOBS

ACCOUNTS, BELOW = 5_000, 40
ENTRIES, LOTS = 20_000, 300
PAGE = 50


_NEWEST: LiteralString = "select * from refill.newest_entries(%s, %s, %s)"
_WATCH_ALL: LiteralString = """
    insert into refill.watch (account_id, due_at, since)
    select account_id, now() + interval '1 hour', now() from refill.account
    on conflict (account_id) do update set due_at = excluded.due_at
"""


@pytest.fixture(scope="module")
def quiet_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A ledger with a long past, a few accounts below their trigger, and two that are read a lot."""
    with temporary_database(postgres_url, template_database) as url:
        fill_quiet(url, ACCOUNTS, BELOW)
        fill_readers(url, ENTRIES, LOTS)
        yield url


@pytest.fixture
def quiet(quiet_url: str) -> Iterator[Connection]:
    with connect(quiet_url) as connection:
        yield connection


def _most(connection: Connection, act: Callable[[], object]) -> tuple[float, str]:
    with carried_out(connection) as steps:
        act()
    assert steps
    return max(steps)


LOOKS: dict[str, tuple[Callable[[Connection], object], int]] = {
    "due charges": (due_charges, 0),
    "due messages": (due_messages, 0),
    "unnumbered events": (lambda c: number_events(c, 1_000), 2),
    "the last number": (last_number, 1),
    "events after a number": (lambda c: events_after(c, ACCOUNTS - 10, 1_000), 12),
    "dead credit": (sweep, 0),
    "accounts below their trigger": (due_accounts, BELOW),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_sweep_looks_at_no_more_rows_than_are_due(quiet: Connection, name: str) -> None:
    act, due = LOOKS[name]
    rows_looked_at, step = _most(quiet, lambda: act(quiet))
    assert rows_looked_at <= max(due, 1), step


def test_accounts_that_are_not_due_yet_are_not_looked_at(quiet: Connection) -> None:
    with quiet.transaction(force_rollback=True):
        quiet.execute(_WATCH_ALL)
        quiet.execute("analyze refill.watch")
        looked_at, step = _most(quiet, lambda: due_accounts(quiet, PAGE))
    assert looked_at <= 1, step


def test_status_counts_what_is_open_and_not_what_is_over(quiet: Connection) -> None:
    looked_at, step = _most(quiet, lambda: look(quiet, list(JOBS)))
    assert looked_at <= 500, step


def test_a_page_of_a_long_history_is_read_from_its_end(quiet: Connection) -> None:
    now = database_now(quiet)
    period = Period(now - 2 * HISTORY, now + timedelta(days=1))
    looked_at, step = _most(quiet, lambda: list(rows(quiet, [READER], period, PAGE)))
    assert looked_at <= 2 * PAGE, step


def test_the_newest_entries_are_read_from_the_end(quiet: Connection) -> None:
    (last,) = fetch_one(quiet, "select max(entry_id) from refill.entry_history where account = %s", (READER,))
    for before in (None, last - 1_000, last - ENTRIES // 2):
        page = (READER, PAGE, before)
        looked_at, step = _most(quiet, partial(quiet.execute, _NEWEST, page))
        assert looked_at <= 2 * PAGE, step


@pytest.mark.parametrize(("account", "lots"), [("account-77", 1), (HOLDER, LOTS)])
def test_a_balance_is_read_from_the_open_lots_of_its_account(quiet: Connection, account: str, lots: int) -> None:
    looked_at, step = _most(
        quiet, lambda: quiet.execute("select * from refill.balance where account = %s", (account,)).fetchall()
    )
    assert looked_at <= lots + 10, step


def test_no_step_of_an_expiry_looks_at_more_rows_than_its_page_has(postgres_url: str, template_database: str) -> None:
    page = 500
    with temporary_database(postgres_url, template_database) as url:
        dying = fill_dying(url, 1, 4 * page - 1)
        with connect(url) as connection, carried_out(connection) as steps:  # every plan is made on empty tables
            assert sweep(connection, dying.second, Pace(page, page, page)) == Expired(4 * page, 400 * page, 4 * page)
        assert max(steps).rows <= page, max(steps)
