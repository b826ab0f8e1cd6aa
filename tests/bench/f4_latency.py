"""F4: from XADD to the committed outcome of a spend, at 1,000 events a second.

    python -m tests.bench.f4_latency [--size small|full]

Counted from the moment each event was due, so that a stall is counted for every event that it held up.
"""

from __future__ import annotations

from tests.bench.figures import RUNS, Figure, Target, percentiles
from tests.bench.ground import ground
from tests.bench.live import live, send
from tests.bench.report import run_program
from tests.bench.sizes import Size

_BOUND = (
    "the intake's Python for each batch of a few events, and the two cores that it shares with upstream, Redis and"
    " Postgres; the sync of a commit is a tenth of a millisecond here."
)


def measure(size: Size) -> list[Figure]:
    """The two percentiles, over all events of each run."""
    with ground(size.accounts) as place:
        runs = []
        for _ in range(RUNS):
            with live(place, crossing=0) as refill:
                runs.append(send(refill, size.choose(full=10.0, small=4.0)).latencies_ms)
    return percentiles("spend to outcome", runs, Target("<=", 5.0), Target("<=", 25.0), _BOUND)


if __name__ == "__main__":
    run_program("f4_latency", __doc__, measure)
