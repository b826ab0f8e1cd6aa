"""A storm: 1,000 accounts, each with a card of its own, fall below their triggers within one second.

    python -m tests.bench.charge_storm [--size small|full]

One worker process with its usual threads; timed from the first event to the processor receiving the last card's
attempt. No card is attempted twice, whatever pokes and sweeps do to each other.
"""

from __future__ import annotations

from jobs.ledger.database import connect, fetch_one
from tests.bench.f5_charge_latency import check_charges
from tests.bench.figures import Figure
from tests.bench.ground import ground
from tests.bench.live import RATE, live, send
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.way import crossings


def measure(size: Size) -> list[Figure]:
    """How long it took, how many a second that is, and how often each account was looked at for it."""
    count = size.choose(full=1_000, small=200)
    with ground(1_000) as place, live(place, count) as refill:
        sent = send(refill, count / RATE, refill.crossing)
        check_charges(refill)
        seconds = max(one.at["confirmed"] for one in crossings(refill, sent)) - sent.due[1]
        with connect(refill.url) as connection:
            evaluations = int(fetch_one(connection, "select count(*) from refill.evaluation")[0])
    return [
        Figure(f"{count:,} cards attempted", "s", [seconds]),
        Figure("cards attempted", "/s", [count / seconds]),
        Figure("evaluations written for each account", "", [evaluations / count]),
    ]


if __name__ == "__main__":
    run_program("charge_storm", __doc__, measure)
