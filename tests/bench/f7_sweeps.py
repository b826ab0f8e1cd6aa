"""F7: what the sweeps cost on a large ledger: finding the few accounts below their trigger, and finding nothing at all.

    python -m tests.bench.f7_sweeps [--size small|full]

Each job of the schedule is run as a worker runs it, with nothing due; what it read is said with it. Whether an account
has a trigger must make no difference to its posting: batches for accounts with and without one are posted in turn.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from config.settings import Settings
from jobs.ledger.database import Connection, connect, fetch_one
from jobs.recharge import due_accounts
from jobs.spend import SpendEvent, post_summarised
from jobs.status import look
from tests.bench.figures import Figure, Target
from tests.bench.ground import ground
from tests.bench.quiet import fill_quiet
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.truth import prove
from tests.support.databases import make_database
from worker.outside import Outside, outside
from worker.runs import JOBS, Run

BELOW = 1_000
LOOK_TARGET = (Target("<", 50),)
IDLE_TARGET = (Target("<", 10),)
STATUS_TARGET = (Target("<", 500),)
POSTING_TARGET = (Target(">=", 0.95, of="ratio"),)

_TIMES = 5
_BATCH = 2_000
_BUFFERS = "select blks_hit + blks_read from pg_stat_database where datname = current_database()"


def measure(size: Size) -> list[Figure]:
    """The look for due accounts, each job with nothing to do, `refill status`, and posting."""
    accounts = size.choose(full=1_000_000, small=100_000)
    with ground(1) as place, TemporaryDirectory() as directory:
        url = make_database(place.server_url, "f7")
        held = fill_quiet(url, accounts, BELOW)
        with connect(url) as connection:
            found = _timed(
                connection, "recharge sweep finds 1,000 accounts below", partial(_look, connection), LOOK_TARGET
            )
            connection.execute("update refill.watch set due_at = now() + interval '1 hour'")
            connection.execute("vacuum analyze refill.watch")
            idle = _idle(connection, _outside(url, place.redis_url, Path(directory)))
            status = _timed(connection, "refill status", lambda: look(connection, list(JOBS)), STATUS_TARGET)
            spent, posting = _posting(connection, accounts)
        prove(url, held - spent)
    return [found, *idle, status, *posting]


def _look(connection: Connection) -> None:
    assert len(due_accounts(connection, BELOW)) == BELOW


def _idle(connection: Connection, world: Outside) -> list[Figure]:
    def never(charge_id: int) -> None:
        raise AssertionError(f"charge {charge_id} was reserved")

    run = Run(connection, world, never)
    return [
        _timed(connection, f"{name} with nothing to do", partial(job, run), IDLE_TARGET) for name, job in JOBS.items()
    ]


def _outside(url: str, redis_url: str, directory: Path) -> Outside:
    return outside(Settings(database_url=url, redis_url=redis_url, mail_dir=directory))


def _timed(connection: Connection, name: str, act: Callable[[], object], targets: tuple[Target, ...]) -> Figure:
    """The times of some runs after a first one; `bound` says what one of them read."""
    act()
    times = []
    before = _buffers(connection)
    for _ in range(_TIMES):
        began = perf_counter()
        act()
        times.append((perf_counter() - began) * 1000)
    read = (_buffers(connection) - before) // _TIMES
    return Figure(name, "ms", times, targets, bound=f"{read:,} pages of 8 kB read from memory")


def _buffers(connection: Connection) -> int:
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("select 1")
    return int(fetch_one(connection, _BUFFERS)[0])


def _posting(connection: Connection, accounts: int) -> tuple[int, list[Figure]]:
    """Batches for accounts without and with a trigger, in turn; and how many credits were spent."""
    draw, spent = random.Random(accounts), 0
    runs: tuple[list[float], list[float]] = ([], [])
    for number in range(20):
        has_trigger = number % 2
        names = [f"account-{2 * draw.randint(1, accounts // 2) - has_trigger}" for _ in range(_BATCH)]
        began = perf_counter()
        summary = post_summarised(connection, [SpendEvent(f"{number}-{i}", name, 1) for i, name in enumerate(names)])
        runs[has_trigger].append(_BATCH / (perf_counter() - began))
        assert summary.counts == {"accepted": _BATCH}, summary
        spent += _BATCH
    without = Figure("posting, accounts without a trigger", "/s", [statistics.median(runs[0])])
    with_trigger = [statistics.median(runs[1])]
    return spent, [
        without,
        Figure("posting, accounts with a trigger", "/s", with_trigger, POSTING_TARGET, without.as_baseline),
    ]


if __name__ == "__main__":
    run_program("f7_sweeps", __doc__, measure)
