"""What a refill costs that has nothing to do: the processor time of each of its processes and of its servers.

python -m tests.bench.idle_cost [--size small|full]
"""

from __future__ import annotations

import threading

import psutil

from tests.bench.figures import Figure, Target
from tests.bench.ground import ground
from tests.bench.live import Live, live
from tests.bench.report import run_program
from tests.bench.sizes import Size

_SERVERS = ("postgres", "redis-server")


def measure(size: Size) -> list[Figure]:
    """The part of one processor, in percent: all together, and each by itself."""
    seconds = size.choose(full=20.0, small=5.0)
    with ground(1_000) as place, live(place, crossing=0) as refill:
        before = _used(refill)
        threading.Event().wait(seconds)
        used = {name: (now - before[name]) / seconds * 100 for name, now in _used(refill).items()}
    parts = [Figure(f"idle {name}", "%", [percent]) for name, percent in used.items()]
    return [Figure("idle refill, all processes", "%", [sum(used.values())], (Target("<", 2.0),)), *parts]


def _used(refill: Live) -> dict[str, float]:
    """Seconds of processor time so far, by process."""
    used = {name: _seconds(psutil.Process(process.pid)) for name, process in refill.processes.items()}
    for child in psutil.Process().children(recursive=True):
        if child.name() in _SERVERS:
            used[child.name()] = used.get(child.name(), 0.0) + _seconds(child)
    return used


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    run_program("idle_cost", __doc__, measure)
