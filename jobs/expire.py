"""Dead credit becomes breakage: the sweep over all accounts.

A balance never shows dead credit, swept or not, and every posting books what is dead on the accounts that it
touches. The sweep is for accounts that nothing touches, so that the books are complete.

It works in pages, each a transaction of its own: lock, then post. A page is as long as fits into some milliseconds
(`Pace`), so that a spend that meets it waits no longer than that. It waits for nobody: an account that somebody else
holds is left to them, for every posting begins with what is dead, and to the next sweep. A kill between two pages loses
nothing, and two sweeps at once share the accounts: whoever has the lock books, and nothing is booked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Final, LiteralString, NamedTuple, TypeAlias

import psycopg
import structlog

from jobs.ledger.database import Connection, database_now, fetch_one

log = structlog.get_logger()

PAGE_TIME_S: Final = 0.025
_BEGINNING: Final = (datetime.min.replace(tzinfo=UTC), 0)


@dataclass(slots=True)
class Pace:
    """How many rows a page has: as many as were booked in PAGE_TIME_S of late, within bounds, and at most twice as many
    as before."""

    size: int = 250
    least: int = 200
    most: int = 5_000

    def adapt(self, rows: int, seconds: float) -> None:
        """Learns from a page that was booked."""
        fitting = round(rows * PAGE_TIME_S / max(seconds, 1e-6))
        self.size = max(self.least, min(fitting, 2 * self.size, self.most))


@dataclass(frozen=True, slots=True)
class Expired:
    """What a sweep booked. ``failed`` accounts are unchanged, each has its line in the log; ``busy`` ones were held by
    somebody else."""

    lots: int = 0
    credits: int = 0
    accounts: int = 0
    busy: int = 0
    failed: int = 0

    def __add__(self, other: Expired) -> Expired:
        return Expired(
            self.lots + other.lots,
            self.credits + other.credits,
            self.accounts + other.accounts,
            self.busy + other.busy,
            self.failed + other.failed,
        )


class _Due(NamedTuple):
    """One row of a page: a lot at its expiry, or an account at the moment to look at it."""

    row_id: int
    account_id: int
    at: datetime


@dataclass(slots=True)
class _Run:
    """One sweep. ``failed`` are the accounts that cannot be booked: nothing of them is tried again in this sweep."""

    connection: Connection
    pace: Pace
    now: datetime | None
    failed: set[int] = field(default_factory=set)


_Book: TypeAlias = Callable[[_Run, Sequence[_Due]], Expired]

_DUE_LOTS: Final = "select lot_id, account_id, expires_at from refill.due_lots(%s, %s, %s, %s)"
_EXPIRE_LOTS: Final = "select lots, credits, accounts from refill.expire_lots(%s, coalesce(%s, clock_timestamp()))"
_DUE_SILENCES: Final = "select account_id, account_id, look_at from refill.due_silences(%s, %s, %s, %s)"
_EXPIRE_SILENT: Final = (
    "select lots, credits, accounts from refill.expire_silent(%s, %s, coalesce(%s, clock_timestamp()))"
)


def sweep(connection: Connection, now: datetime | None = None, pace: Pace | None = None) -> Expired:
    """Books the expiry of all credit that is dead at ``now``: lots by their date, then those of silent accounts.

    An account whose expiry cannot be booked is logged and passed over. Raises what the driver raises where the
    database is lost; the pages until then are booked.
    """
    until = now or database_now(connection)
    run = _Run(connection, pace or Pace(), now)
    total = _book_all(run, _DUE_LOTS, until, _book_lots) + _book_all(run, _DUE_SILENCES, until, _book_silences)
    if total.lots:
        log.info("credit.expired", lots=total.lots, credits=total.credits, accounts=total.accounts)
    return total


def _book_all(run: _Run, query: LiteralString, until: datetime, book: _Book) -> Expired:
    total, after = Expired(), _BEGINNING
    while page := _page(run, query, after, until):
        total += _book_page(run, page, book)
        after = (page[-1].at, page[-1].row_id)
    return total


def _page(run: _Run, query: LiteralString, after: tuple[datetime, int], until: datetime) -> list[_Due]:
    return [_Due(*row) for row in run.connection.execute(query, (*after, until, run.pace.size)).fetchall()]


def _book_page(run: _Run, page: Sequence[_Due], book: _Book) -> Expired:
    """The page at once; where that fails its halves, so that one bad account holds back no other."""
    wanted = [due for due in page if due.account_id not in run.failed]
    if not wanted:
        return Expired()
    try:
        return book(run, wanted)
    except psycopg.Error as error:
        if run.connection.closed:
            raise
        if len(wanted) == 1:
            run.failed.add(wanted[0].account_id)
            log.error("expiry.failed", account_id=wanted[0].account_id, error=str(error).strip())
            return Expired(failed=1)
    middle = len(wanted) // 2
    return _book_page(run, wanted[:middle], book) + _book_page(run, wanted[middle:], book)


def _book_lots(run: _Run, page: Sequence[_Due]) -> Expired:
    started = perf_counter()
    with run.connection.transaction():
        locked, busy = _lock(run, page)
        lots = [due.row_id for due in page if due.account_id in locked]
        booked = _booked(run, _EXPIRE_LOTS, (lots, run.now))
    run.pace.adapt(len(page), perf_counter() - started)
    return replace(booked, busy=busy)


def _book_silences(run: _Run, page: Sequence[_Due]) -> Expired:
    """In more than one transaction where the accounts have more lots than a page may."""
    total, most = Expired(), run.pace.size
    while True:
        started = perf_counter()
        with run.connection.transaction():
            locked, busy = _lock(run, page)
            booked = _booked(run, _EXPIRE_SILENT, (list(locked), most, run.now))
        run.pace.adapt(max(booked.lots, len(page)), perf_counter() - started)
        total += booked
        if booked.lots < most:
            return replace(total, busy=busy)


def _lock(run: _Run, page: Sequence[_Due]) -> tuple[set[int], int]:
    """The accounts of the page that are locked from here on, and how many others somebody else holds."""
    wanted = {due.account_id for due in page}
    locked = set(fetch_one(run.connection, "select refill.lock_free_accounts(%s)", (list(wanted),))[0])
    return locked, len(wanted) - len(locked)


def _booked(run: _Run, query: LiteralString, values: Sequence[object]) -> Expired:
    """A statement of its own: the time of booking is read after the locks are held, so that no entry is older than the
    one before it."""
    lots, lost, accounts = fetch_one(run.connection, query, values)
    return Expired(int(lots), int(lost), int(accounts))
