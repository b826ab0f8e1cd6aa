"""What a refill costs that has nothing to do, and whether it is as fast as ever when something comes.

The cost is the processor time of each of its processes and of its servers. The first crossing after the start of all
processes and the first one after the quiet time are timed like those of F5, from the event to the processor.

python -m tests.bench.idle_cost [--size small|full]
"""

from __future__ import annotations

import threading
import time

import psutil
import redis

from jobs.ledger.database import connect
from tests.bench.figures import Figure, Target
from tests.bench.ground import ground
from tests.bench.live import CROSSING_SPEND, Live, live, wait_until_quiet
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.support.waiting import eventually
from worker.stream import STREAM

_PATIENCE_S = 30.0
_SERVERS = ("postgres", "redis-server")


def measure(size: Size) -> list[Figure]:
    """The part of one processor, in percent: all together, and each by itself."""
    seconds = size.choose(full=20.0, small=5.0)
    with ground(1_000) as place, live(place, crossing=2) as refill:
        after_start, after_quiet = refill.crossing
        first_ms = _cross(refill, after_start)
        before = _used(refill)
        threading.Event().wait(seconds)
        used = {name: (now - before[name]) / seconds * 100 for name, now in _used(refill).items()}
        next_ms = _cross(refill, after_quiet)
    parts = [Figure(f"idle {name}", "%", [percent]) for name, percent in used.items()]
    return [
        Figure("idle refill, all processes", "%", [sum(used.values())], (Target("<", 2.0),)),
        *parts,
        Figure("first spend after the start, to processor", "ms", [first_ms], (Target("<=", 200.0),)),
        Figure(f"first spend after {seconds:.0f} s without any", "ms", [next_ms], (Target("<=", 200.0),)),
    ]


def _cross(refill: Live, account: str) -> float:
    """One event that takes the account below its trigger; milliseconds from XADD to the processor."""
    received = len(refill.sandbox.requests("/v1/payment_intents"))
    with redis.Redis.from_url(refill.redis_url, protocol=2) as client:
        client.ping()
        sent_at = time.time()
        client.xadd(STREAM, {"id": account, "account": account, "amount": CROSSING_SPEND})
    with connect(refill.url) as connection:
        paid = "select 1 from refill.charge_history where account = %s and state = 'succeeded'"
        eventually(lambda: connection.execute(paid, (account,)).fetchall(), _PATIENCE_S)
    wait_until_quiet(refill.url)
    first = refill.sandbox.requests("/v1/payment_intents")[received]
    return (float(str(first["at"])) - sent_at) * 1_000


def _used(refill: Live) -> dict[str, float]:
    """Seconds of processor time so far, by process."""
    used = {name: processor_seconds(process.pid) for name, process in refill.processes.items()}
    for child in psutil.Process().children(recursive=True):
        if child.name() in _SERVERS:
            used[child.name()] = used.get(child.name(), 0.0) + processor_seconds(child.pid)
    return used


def processor_seconds(pid: int) -> float:
    """How long a process has been computing so far, with what the system computed for it."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    run_program("idle_cost", __doc__, measure)
