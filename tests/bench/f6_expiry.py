"""F6: how fast credit that dies at one moment is booked, and what a spend waits meanwhile.

    python -m tests.bench.f6_expiry [--size small|full]

The sweep is the job's own function. First lots of accounts that keep other credit die; then the only lots of others,
each of which is told so: two events and a message for each. Beside the first an upstream spends at a steady rate on the
accounts that keep credit, on time whether the ledger answers or not: its latency counts from when a spend was due.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import NamedTuple

from jobs.expire import Expired, sweep
from jobs.ledger.database import connect, fetch_one
from tests.bench.cores import Cores
from tests.bench.dying import Dying, fill_dying
from tests.bench.figures import Baseline, Figure, Target, percentile
from tests.bench.ground import Ground, ground
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.spender import spending
from tests.bench.truth import outcomes, prove
from tests.support.databases import make_database

RATE_TARGET = (Target(">=", 40_000),)
LATENCY_TARGET = (Target("<", 2.0, of="ratio"),)


class Swept(NamedTuple):
    """One sweep: what it booked, how long it took, the latencies of the spends that were due meanwhile, the cores."""

    expired: Expired
    seconds: float
    latencies_ms: list[float]
    busy: str


def measure(size: Size) -> list[Figure]:
    """The spender alone, the sweep beside it, and the sweep of those who are told."""
    keeping, emptied = size.choose(full=(1_000_000, 200_000), small=(100_000, 20_000))
    with ground(1) as place:
        url = make_database(place.server_url, "f6")
        dying = fill_dying(url, keeping, emptied)
        idle_ms = _idle(url, keeping, size.choose(full=10.0, small=4.0))
        beside = _sweep(place, url, dying.first, keeping)
        told = _sweep(place, url, dying.second, 0)
        _prove(url, dying, beside.expired, told.expired)
    idle = Figure("spend p99, idle", "ms", [percentile(idle_ms, 99)])
    return [
        _rate("expiry beside spending, accounts that keep credit", beside, RATE_TARGET),
        _rate("expiry alone, accounts emptied and told", told, ()),
        idle,
        Figure(
            "spend p99 during the expiry",
            "ms",
            [percentile(beside.latencies_ms, 99)],
            LATENCY_TARGET,
            Baseline("idle", idle.value),
        ),
    ]


def _rate(name: str, swept: Swept, targets: tuple[Target, ...]) -> Figure:
    return Figure(name, " lots/s", [swept.expired.lots / swept.seconds], targets, bound=swept.busy)


def _idle(url: str, accounts: int, seconds: float) -> list[float]:
    """What spends wait while nothing else happens; the first second warms up."""
    with spending(url, accounts) as measured:
        threading.Event().wait(seconds + 1)
    return [latency for due, latency in measured if due > measured[0][0] + 1]


def _sweep(place: Ground, url: str, now: datetime, spent_on: int) -> Swept:
    if not spent_on:
        expired, began, ended, busy = _swept(place, url, now)
        return Swept(expired, ended - began, [], busy)
    with spending(url, spent_on) as measured:
        threading.Event().wait(1)
        expired, began, ended, busy = _swept(place, url, now)
    return Swept(expired, ended - began, [latency for due, latency in measured if began < due < ended], busy)


def _swept(place: Ground, url: str, now: datetime) -> tuple[Expired, float, float, str]:
    cores = Cores(place, {})
    with connect(url) as connection:
        began = time.time()
        expired = sweep(connection, now)
        return expired, began, time.time(), cores.in_words(expired.lots)


def _prove(url: str, dying: Dying, *swept: Expired) -> None:
    """Everything that died is booked, once, and told to whoever it emptied; nothing else is gone but what was spent."""
    with connect(url) as connection:
        left, entries, lost, messages = fetch_one(
            connection,
            """
            select (select count(*) from refill.lot where open and expires_at < 'infinity'),
                   count(*), coalesce(sum(amount), 0)::bigint,
                   (select count(*) from refill.message where kind = 'depleted')
            from refill.entry where kind = 'expiry'
            """,
        )
    busy = sum(expired.busy for expired in swept)
    assert left <= busy, f"{left} dead lots are not booked; {busy} accounts were left to whoever held them"
    assert (entries, lost) == (sum(one.lots for one in swept), sum(one.credits for one in swept))
    assert messages == dying.emptied, messages
    (outcome, (_, spent)), *others = outcomes(url).items()
    assert (outcome, others) == ("accepted", []), (outcome, others)
    prove(url, dying.credits - lost - spent)


if __name__ == "__main__":
    run_program("f6_expiry", __doc__, measure)
