"""F1: how fast a backlog in the stream becomes committed entries, by real `refill intake` processes.

    python -m tests.bench.f1_drain [--size small|full] [--intakes 1 2]

Accounts are drawn uniformly, which is the hardest: no two events of a batch share a row. Beside it stands the naive
ledger of tests/bench/naive.py, measured in the same run. Event ids ascend, as serial numbers and UUIDs of version 7 do;
F9 measures random ones.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from functools import partial

from tests.bench.backlog import Backlog, Event
from tests.bench.drain import drains
from tests.bench.figures import RUNS, Figure, Target
from tests.bench.ground import Ground, ground
from tests.bench.naive import CLIENTS, naive_per_second
from tests.bench.report import report
from tests.bench.sizes import SIZES, Size

TARGETS = (Target(">=", 30_000), Target(">=", 15, of="ratio"))


def measure(size: Size, intakes: Sequence[int] = (1, 2)) -> list[Figure]:
    """The baseline and a figure for each number of intakes."""
    with ground(size.accounts) as place:
        naive = Figure(f"naive psycopg, {CLIENTS} clients", "/s", [_naive(place, size, run) for run in range(RUNS)])
        backlog = Backlog(place.redis_url, uniform(size.events, size.accounts))
        found = [drains(place, backlog, count, TARGETS, naive.as_baseline) for count in intakes]
    return [naive, *found]


def uniform(events: int, accounts: int) -> list[Event]:
    """Spends of 1 to 100 credits, each by any account."""
    draw = random.Random(events)
    return [
        Event(f"event-{number:09}", f"account-{draw.randint(1, accounts)}", draw.randint(1, 100))
        for number in range(events)
    ]


def _naive(place: Ground, size: Size, run: int) -> float:
    name = f"naive_{run}"
    per_second = naive_per_second(place.ledger(name), size.accounts, size.baseline_s)
    place.drop(name)
    return per_second


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--intakes", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    report("f1_drain", SIZES[arguments.size], partial(measure, intakes=arguments.intakes))


if __name__ == "__main__":
    main()
