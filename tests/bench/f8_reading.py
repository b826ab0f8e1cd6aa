"""F8: reading what one account did and has, where the account has a million entries or ten thousand open lots.

    python -m tests.bench.f8_reading [--size small|full]

A page of history is the newest 50 entries, or 50 somewhere in the past: as `refill history` reads it, and through the
public function. The public view gives the same and sorts the whole account for it, see functions/08_views.sql: its time
is shown without a target. Entries lie in the partitions of a year.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from time import perf_counter
from typing import LiteralString

from jobs.history import Period, rows
from jobs.ledger.database import Connection, connect, database_now, fetch_one
from tests.bench.figures import Figure, Target, percentile
from tests.bench.ground import ground
from tests.bench.readers import HISTORY, HOLDER, READER, fill_readers
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.truth import prove

PAGE_TARGET = (Target("<", 10),)
BALANCE_TARGET = (Target("<", 2),)
PAGE = 50
LOTS = 10_000

_FUNCTION: LiteralString = "select * from refill.newest_entries(%s, %s, %s)"
_VIEW: LiteralString = "select * from refill.entry_history where account = %s order by entry_id desc limit %s"
_IDS: LiteralString = "select min(entry_id), max(entry_id) from refill.entry_history where account = %s"
_BALANCE: LiteralString = "select * from refill.balance where account = %s"


def measure(size: Size) -> list[Figure]:
    """Pages of the long history, and balances."""
    times = size.choose(full=1_000, small=200)
    with ground(size.accounts) as place:
        url = place.ledger("f8")
        held = place.held + fill_readers(url, size.choose(full=1_000_000, small=100_000), LOTS)
        with connect(url) as connection:
            draw = random.Random(size.accounts)
            figures = [*_pages(connection, draw, times), *_balances(connection, draw, size.accounts, times)]
        prove(url, held)
    return figures


def _pages(connection: Connection, draw: random.Random, times: int) -> list[Figure]:
    now = database_now(connection)
    always = Period(now - 2 * HISTORY, now + timedelta(days=1))
    first, last = fetch_one(connection, _IDS, (READER,))

    def newest() -> int:
        return len(list(rows(connection, [READER], always, PAGE)))

    def some_month() -> int:
        since = now - timedelta(days=draw.randint(31, HISTORY.days - 1))
        return len(list(rows(connection, [READER], Period(since, since + timedelta(days=30)), PAGE)))

    def older() -> int:
        return len(connection.execute(_FUNCTION, (READER, PAGE, draw.randint(first + PAGE, last))).fetchall())

    def by_view() -> int:
        return len(connection.execute(_VIEW, (READER, PAGE)).fetchall())

    return [
        _p99("history page, newest", newest, times, PAGE_TARGET),
        _p99("history page, end of any month", some_month, times, PAGE_TARGET),
        _p99("history page by refill.newest_entries(), anywhere", older, times, PAGE_TARGET),
        _p99("newest page by the view refill.entry_history", by_view, 5, ()),
    ]


def _balances(connection: Connection, draw: random.Random, accounts: int, times: int) -> list[Figure]:
    def anybody() -> int:
        return len(connection.execute(_BALANCE, (f"account-{draw.randint(1, accounts)}",)).fetchall()) * PAGE

    def holder() -> int:
        return len(connection.execute(_BALANCE, (HOLDER,)).fetchall()) * PAGE

    return [
        _p99("balance view, 2 open lots", anybody, times, BALANCE_TARGET),
        _p99(f"balance view, {LOTS:,} open lots", holder, times, ()),
    ]


def _p99(name: str, read: Callable[[], int], times: int, targets: tuple[Target, ...]) -> Figure:
    """The p99 of some reads after a first few; each must find a whole page."""
    taken = []
    for number in range(times + 10):
        began = perf_counter()
        found = read()
        taken.append((perf_counter() - began) * 1000)
        assert found == PAGE, (name, number, found)
    return Figure(f"{name}, p99", "ms", [percentile(taken[10:], 99)], targets)


if __name__ == "__main__":
    run_program("f8_reading", __doc__, measure)
