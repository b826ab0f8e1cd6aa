"""A ledger with most of a year behind it: millions of entries and the events that they book, written at once.

Every account spent in turn, round after round, from its first lot; the last round was a moment ago. The books are
right, so that an audit of the whole finds nothing. Event ids are random UUIDs: a new one belongs anywhere in its index.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from jobs.ledger.database import Connection, connect, database_now, fetch_one

PAST = timedelta(days=330)
BYTES_PER_ENTRY = 1_000  # on disk, with its event, both indexes and the log of writing them

_WRITERS = 2
_CHUNKS = 12
_UNSAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_wal_size": "16GB"}

# What every account spends in each round, and what it has spent by then.
_ROUNDS: LiteralString = """
    create unlogged table public.drawn as
    select round, amount, sum(amount) over (order by round)::bigint as spent
    from (select round, (1 + round * 7919 %% 100)::bigint as amount from generate_series(1, %s) round) r
"""
_HOLDERS: LiteralString = """
    create unlogged table public.holder as
    select account_id, program_id, balance, row_number() over (order by account_id) as place, lot_id
    from refill.account
    join (select account_id, min(lot_id) as lot_id from refill.lot group by account_id) l using (account_id)
"""
# Events are numbered through all rounds; the number says when it was and what id it has.
_EVENTS: LiteralString = """
    insert into refill.spend_event
        (event_id, program_id, account_id, amount, outcome, balance_after, shortfall, posted_at)
    select md5('past ' || n.number)::uuid::text, h.program_id, h.account_id, d.amount, 'accepted',
           h.balance - d.spent, 0, %(since)s + n.number * %(step)s
    from public.drawn d, public.holder h, lateral (select (d.round - 1) * %(accounts)s::bigint + h.place as number) n
    where d.round > %(first)s and d.round <= %(last)s
"""
_ENTRIES: LiteralString = """
    insert into refill.entry
        (entry_id, at, kind, program_id, from_side, to_side, amount, lot_id, from_balance, event_id)
    select %(entry_id)s + n.number, %(since)s + n.number * %(step)s, 'spend', h.program_id, h.account_id,
           refill.own_side(h.program_id, 'revenue'), d.amount, h.lot_id, h.balance - d.spent,
           md5('past ' || n.number)::uuid::text
    from public.drawn d, public.holder h, lateral (select (d.round - 1) * %(accounts)s::bigint + h.place as number) n
    where d.round > %(first)s and d.round <= %(last)s
"""
_SETTLE: LiteralString = """
    update refill.lot l set remaining = remaining - (select max(spent) from public.drawn)
    from public.holder h where h.lot_id = l.lot_id;
    update refill.account a set balance = a.balance - (select max(spent) from public.drawn)
    from public.holder h where h.account_id = a.account_id;
    drop table public.drawn, public.holder;
"""


class DiskTooSmall(RuntimeError):
    """There is no room for a ledger of that size."""


@dataclass(frozen=True, slots=True)
class _Past:
    """What numbers and moments the events of the past have."""

    accounts: int
    rounds: int
    entry_id: int  # the last one before them
    since: datetime
    step: timedelta


def check_room(entries: int, directory: Path) -> None:
    """Raises DiskTooSmall unless so many entries fit beside a tenth of the disk that stays free."""
    free, needed = shutil.disk_usage(directory).free, entries * BYTES_PER_ENTRY
    if free < needed * 1.1:
        raise DiskTooSmall(
            f"{entries:,} entries need about {needed / 1e9:.0f} GB in {directory}, where {free / 1e9:.0f} GB are free;"
            " give TMPDIR another place or take SIZE=small"
        )


def grow(url: str, entries: int) -> int:
    """Gives the accounts of a fresh ledger, granted PAST ago, about so many spends; returns the credits spent."""
    with _unsafe(url), connect(url) as connection:
        past = _prepare(connection, entries)
        definitions = _drop_indexes(connection)
        _write(url, past)
        held = _held(connection)
        connection.execute(_SETTLE)
        connection.execute("select setval('refill.entry_id_seq', %s)", (past.entry_id + past.accounts * past.rounds,))
        _in_parallel(url, definitions)
        connection.execute("vacuum (freeze, analyze)")
        return held - _held(connection)


def _prepare(connection: Connection, entries: int) -> _Past:
    accounts, entry_id = fetch_one(
        connection, "select (select count(*) from refill.account), (select max(entry_id) from refill.entry)"
    )
    rounds = max(entries // accounts, 1)
    connection.execute(_ROUNDS, (rounds,))
    connection.execute(_HOLDERS)
    connection.execute("analyze public.drawn, public.holder")
    now = database_now(connection)
    connection.execute("select refill.ensure_entry_partitions(12, %s)", (now - PAST,))
    return _Past(accounts, rounds, entry_id, now - PAST, PAST / (accounts * rounds))


def _write(url: str, past: _Past) -> None:
    steps = [past.rounds * chunk // _CHUNKS for chunk in range(_CHUNKS + 1)]
    with ThreadPoolExecutor(_WRITERS) as writers:
        jobs = [
            writers.submit(_write_rounds, url, query, past, first, last)
            for first, last in pairwise(steps)
            for query in (_EVENTS, _ENTRIES)
        ]
    for job in jobs:
        job.result()


def _write_rounds(url: str, query: LiteralString, past: _Past, first: int, last: int) -> None:
    values = {
        "accounts": past.accounts,
        "entry_id": past.entry_id,
        "since": past.since,
        "step": past.step,
        "first": first,
        "last": last,
    }
    with connect(url) as connection:
        connection.execute(query, values)


def _drop_indexes(connection: Connection) -> list[bytes]:
    """Takes away what would be kept up to date row by row; returns the statements that bring it back."""
    (key,) = fetch_one(
        connection,
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'spend_event_pkey'",
    )
    connection.execute("alter table refill.spend_event drop constraint spend_event_pkey")
    indexes = connection.execute(
        "select indexname, indexdef from pg_indexes"
        " where schemaname = 'refill' and tablename in ('entry', 'spend_event')"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("drop index refill.{}").format(sql.Identifier(name)))
    again = [f"alter table refill.spend_event add constraint spend_event_pkey {key}"]
    return [statement.encode() for statement in [*again, *(definition for _, definition in indexes)]]


def _in_parallel(url: str, statements: Sequence[bytes]) -> None:
    with ThreadPoolExecutor(_WRITERS) as builders:
        for done in [builders.submit(_build, url, statement) for statement in statements]:
            done.result()


def _build(url: str, statement: bytes) -> None:
    with connect(url) as connection:
        connection.execute("set maintenance_work_mem = '1GB'")
        connection.execute(statement)


def _held(connection: Connection) -> int:
    return int(fetch_one(connection, "select sum(balance) from refill.account")[0])


@contextmanager
def _unsafe(url: str) -> Iterator[None]:
    """Nothing is synced inside; all of it is before the end."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in _UNSAFE.items():
            connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        connection.execute("select pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("alter system reset all")
            connection.execute("select pg_reload_conf()")
            connection.execute("checkpoint")
            os.sync()
