"""F5: from XADD of the event that crosses a trigger to the processor receiving the request, at 1,000 events a second,
of which one in 150 crosses a trigger.

    python -m tests.bench.f5_charge_latency [--size small|full] [--legs]

The first request is the payment intent's creation, which the target is for; the card itself is asked by the
confirmation, which is shown beside it. Both are timed by the processor when they reach it, and counted from the moment
the event was due. `--legs` shows where the time goes, in one more run, which is watched and therefore slower.

Every account that crosses has a card of its own, and afterwards was charged exactly once, by the ledger's word and by
the processor's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from jobs.ledger.database import connect
from tests.bench.figures import RUNS, Figure, Target, percentile, percentiles
from tests.bench.ground import Ground, ground
from tests.bench.live import CROSSING_SPEND, GRANTED, RECHARGED, Live, live, send
from tests.bench.report import report
from tests.bench.sizes import SIZES, Size
from tests.bench.way import LEGS, Crossing, Monitor, crossings, with_pokes
from tests.support.waiting import eventually

_PATIENCE_S = 60.0
_BOUND = (
    "two dozen questions to Postgres and two milliseconds of the processor's client between the poke and the request;"
    " `--legs` shows them. Whoever waits, waits for one of the two cores."
)


def measure(size: Size) -> list[Figure]:
    """Both percentiles of both requests."""
    with ground(size.accounts) as place:
        runs = [_crossings(place, size) for _ in range(RUNS)]
    created = percentiles(
        "spend to processor",
        [[one.ms("due", "created") for one in run] for run in runs],
        Target("<=", 40.0),
        Target("<=", 200.0),
        _BOUND,
    )
    confirmed = percentiles(
        "spend to card attempt",
        [[one.ms("due", "confirmed") for one in run] for run in runs],
        Target("<=", 40.0),
        Target("<=", 200.0),
        _BOUND,
    )
    return [*created, *confirmed]


def _crossings(place: Ground, size: Size) -> list[Crossing]:
    with live(place, size.choose(full=100, small=40)) as refill:
        sent = send(refill, size.choose(full=15.0, small=6.0), refill.crossing)
        check_charges(refill)
        return crossings(refill, sent)


def check_charges(refill: Live) -> None:
    """Waits until every account has its credit; each was charged once, and the processor agrees."""
    count = len(refill.crossing)
    with connect(refill.url) as connection:
        done = "select count(*) from refill.charge where state = 'succeeded'"
        eventually(lambda: connection.execute(done).fetchall() == [(count,)], _PATIENCE_S)
        balances = connection.execute("select distinct balance from refill.account where name ~ '^crossing'").fetchall()
        charges = connection.execute("select count(*), count(distinct account_id) from refill.charge_line").fetchall()
    assert balances == [(GRANTED - CROSSING_SPEND + RECHARGED,)], balances
    assert charges == [(count, count)], charges
    for path in ("/v1/payment_intents", "/confirm"):
        asked = [one for one in refill.sandbox.requests(path) if str(one["path"]).endswith(path)]
        assert len(asked) == count, f"{len(asked)} requests to {path} for {count} crossings"


def show_legs(size: Size) -> None:
    """Where the time goes, leg by leg."""
    with ground(size.accounts) as place, live(place, size.choose(full=100, small=40)) as refill:
        with Monitor(refill.redis_url) as monitor:
            sent = send(refill, size.choose(full=15.0, small=6.0), refill.crossing)
            check_charges(refill)
        found = with_pokes(crossings(refill, sent), sent, monitor.lines)
    Console(width=100).print(_table(found))


def _table(found: Sequence[Crossing]) -> Table:
    table = Table(title=f"the way of {len(found)} charges, in ms (watched)", title_justify="left")
    for heading in ("leg", "p50", "p99"):
        table.add_column(heading, justify="left" if heading == "leg" else "right")
    for first, last, words in (
        *LEGS,
        ("due", "created", "all: to the processor"),
        ("due", "confirmed", "all: to the card"),
    ):
        took = [one.ms(first, last) for one in found]
        table.add_row(words, f"{percentile(took, 50):.1f}", f"{percentile(took, 99):.1f}")
    return table


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--legs", action="store_true", help="show where the time goes instead")
    options = parser.parse_args()
    if options.legs:
        show_legs(SIZES[options.size])
    else:
        report("f5_charge_latency", SIZES[options.size], measure)


if __name__ == "__main__":
    main()
