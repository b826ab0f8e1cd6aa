"""How Postgres carries out a batch: by index probes and hash tables of the batch's own size, and without index updates.

Postgres plans an array for its length only a few times, and then turns to one plan for any length, which guesses wrong
by orders of magnitude. Neither that nor a table that is read whole shows in a result, so the plan itself is looked at.
"""

from __future__ import annotations

from typing import LiteralString

import pytest

from jobs.ledger.database import Connection, connect
from jobs.spend import SpendEvent, post
from tests.ledger.books import Books
from tests.support.plans import Node, carried_out

ACCOUNTS = 10_000
BATCH = 500
BATCHES_BEFORE_A_GENERIC_PLAN = 6

_FILL: LiteralString = """
    insert into refill.account (program_id, organisation_id, name)
    select program_id, organisation_id, 'account-' || n
    from refill.account, generate_series(1, %s) n where name = 'a'
"""
_GRANT: LiteralString = """
    select count(*) from (select array_agg(account_id) as ids, count(*)::int as n from refill.account) a,
    refill.post_grants(a.ids, array_fill(1000::bigint, array[a.n]), array_fill('infinity'::timestamptz, array[a.n]),
                       array_fill(0::bigint, array[a.n]), 'promotion', null, null, null, 'test')
"""
_UPDATES: LiteralString = """
    select relname, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables
    where schemaname = 'refill' and relname in ('account', 'lot') order by 1
"""


@pytest.fixture
def ledger(broken_books: Books) -> Books:
    """Accounts `account-0` to `account-9999` with two lots each, in a database of its own."""
    broken_books.open("a")
    broken_books.run(_FILL, (ACCOUNTS - 1,))
    broken_books.run(_GRANT)
    broken_books.run(_GRANT)
    broken_books.run("vacuum analyze")
    return broken_books


def _alter(ledger: Books, change: str) -> None:
    ledger.run(f"alter function refill.post_plain_spends {change}".encode())


def _post(connection: Connection, batch: int, first: int = 0) -> None:
    events = [
        SpendEvent(f"event-{batch}-{n}", f"account-{1 + (first + n * 7) % (ACCOUNTS - 1)}", 1) for n in range(BATCH)
    ]
    assert {answer.outcome for answer in post(connection, events)} == {"accepted"}


def _most_rows_in_the_next_batch(connection: Connection) -> Node:
    for number in range(BATCHES_BEFORE_A_GENERIC_PLAN):
        _post(connection, number)
    with carried_out(connection) as steps:
        _post(connection, BATCHES_BEFORE_A_GENERIC_PLAN)
    return max(steps)


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
def test_no_step_of_a_batch_looks_at_more_rows_than_the_batch_touches(ledger: Books, database: str, plan: str) -> None:
    _alter(ledger, f"set plan_cache_mode = {plan}")
    with connect(database) as connection:
        most = _most_rows_in_the_next_batch(connection)
    assert most.rows <= 3 * BATCH, most


def test_a_plan_that_reads_a_whole_table_would_be_noticed(ledger: Books, database: str) -> None:
    for setting in ("enable_nestloop = off", "enable_tidscan = off", "enable_seqscan = on"):
        _alter(ledger, f"set {setting}")
    with connect(database) as connection:
        most = _most_rows_in_the_next_batch(connection)
    assert most.rows >= ACCOUNTS


def test_lots_and_accounts_are_updated_without_touching_an_index(ledger: Books, database: str) -> None:
    ledger.run("select pg_stat_force_next_flush()")
    before = {name: (updates, hot) for name, updates, hot in ledger.rows(_UPDATES)}
    with connect(database) as connection:
        for number in range(8):
            _post(connection, number, first=number * BATCH)
        connection.execute("select pg_stat_force_next_flush()")
    for name, updates, hot in ledger.rows(_UPDATES):
        assert updates - before[name][0] == 8 * BATCH
        assert hot - before[name][1] > 0.95 * 8 * BATCH, name
