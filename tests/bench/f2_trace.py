"""F2: the drain of F1 as real traffic would have it: a few accounts spend most, and amounts are those of a real trace.

    python -m tests.bench.f2_trace [--size small|full]

The trace is the one that the project is developed with, an hour of requests to a language model, dealt out to 1,000
accounts just as `refill replay` does, over and over until there are enough events. Where it is not at hand, amounts are
drawn from a log-normal law of about its median and spread, and the figure says so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice

from tests.bench.backlog import Backlog, Event
from tests.bench.drain import drains
from tests.bench.figures import Figure, Target
from tests.bench.ground import ground
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.support.processes import ROOT
from worker.replay import plan_replay
from worker.trace import Trace, TraceRow, read_trace

ACCOUNTS = 1_000
LOT_CREDITS = 10**9  # more than the busiest account spends
TARGETS = (Target(">=", 40_000),)

_FILE = ROOT.parent / "shared" / "data" / "azure-llm-code-2023.csv"
_ROWS, _MU, _SIGMA = 8_819, 7.3, 0.9  # of the stand-in: about as many rows, median e ** 7.3


def measure(size: Size) -> list[Figure]:
    """A figure for one intake and one for two, which share accounts."""
    trace, of = (read_trace(_FILE), "the trace") if _FILE.exists() else (stand_in(), "a stand-in for the trace")
    accounts = [f"account-{rank}" for rank in range(1, ACCOUNTS + 1)]
    with ground(ACCOUNTS, lot_credits=LOT_CREDITS) as place:
        backlog = Backlog(place.redis_url, list(islice(dealt_out(trace, accounts), size.events)))
        return [drains(place, backlog, intakes, TARGETS, of=of) for intakes in (1, 2)]


def dealt_out(trace: Trace, accounts: list[str]) -> Iterator[Event]:
    """The rows of the trace, again and again, each time dealt out anew."""
    for seed in count(1):
        for event in plan_replay(trace, accounts, "points", seed).events:
            yield Event(str(event.fields["id"]), str(event.fields["account"]), int(event.fields["amount"]))


def stand_in() -> Trace:
    """As many amounts as the trace has, and about as large."""
    draw = random.Random(_ROWS)
    rows = [TraceRow(number, 1 + round(draw.lognormvariate(_MU, _SIGMA)), None) for number in range(1, _ROWS + 1)]
    return Trace(rows, 0, "stand-in")


if __name__ == "__main__":
    run_program("f2_trace", __doc__, measure)
