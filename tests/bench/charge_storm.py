"""A storm: 1,000 accounts, each with a card of its own, fall below their triggers within one second.

    python -m tests.bench.charge_storm [--size small|full]

One worker process with its usual threads; timed from the first event to the processor receiving the last card's
attempt. No card is attempted twice, whatever pokes and sweeps do to each other.
"""

from __future__ import annotations

from tests.bench.f5_charge_latency import check_charges
from tests.bench.figures import Figure
from tests.bench.ground import ground
from tests.bench.idle_cost import processor_seconds
from tests.bench.live import RATE, live, send, wait_until_quiet
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.way import crossings


def measure(size: Size) -> list[Figure]:
    """How long it took, how many a second that is, and what one costs the worker until its mail is sent."""
    count = size.choose(full=1_000, small=200)
    with ground(1_000) as place, live(place, count) as refill:
        before_s = processor_seconds(refill.processes["worker"].pid)
        sent = send(refill, count / RATE, refill.crossing, warm_up_s=0.0)
        check_charges(refill)
        seconds = max(one.at["confirmed"] for one in crossings(refill, sent)) - sent.due[1]
        wait_until_quiet(refill.url)
        worker_s = processor_seconds(refill.processes["worker"].pid) - before_s
    return [
        Figure(f"{count:,} cards attempted", "s", [seconds]),
        Figure("cards attempted", "/s", [count / seconds]),
        Figure("processor time of the worker for each", "ms", [worker_s / count * 1_000]),
    ]


if __name__ == "__main__":
    run_program("charge_storm", __doc__, measure)
