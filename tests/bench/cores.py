"""Which processes the cores were busy with: what bounds a figure is whatever has a whole core, or all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import psutil
import psycopg

from tests.bench.ground import Ground, open_stream


class Cores:
    """Counts the processor time of Postgres, of Redis and of the named processes since it was made, or begun again."""

    def __init__(self, place: Ground, processes: Mapping[str, Sequence[int]]) -> None:
        self._pids = {"Postgres": [_postmaster(place.server_url)], "Redis": [_redis(place.redis_url)], **processes}
        self.begin()

    def begin(self) -> None:
        """Counts from now on."""
        self._began = time.monotonic()
        self._used, self._busy = self._count(), _all_busy()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def in_words(self, events: int = 0) -> str:
        """`2 of 2 cores busy: Postgres 1.31, Redis 0.08, others 0.07`, and what each of so many events cost.

        That cost, unlike a rate, stays nearly the same on a machine that does something else as well.
        """
        seconds, all_busy = self.seconds, _all_busy()
        used = {name: now - self._used[name] for name, now in self._count().items()}
        cores = {name: used_s / seconds for name, used_s in used.items()}
        busy, count = (all_busy - self._busy) / seconds, psutil.cpu_count() or 1
        cores["others"] = max(busy - sum(cores.values()), 0.0)
        shares = ", ".join(f"{name} {share:.2f}" for name, share in cores.items())
        said = f"{min(busy, count):.2g} of {count} cores busy: {shares}"
        costs = ", ".join(f"{name} {used_s * 1e6 / events:.1f} µs" for name, used_s in used.items()) if events else ""
        return f"{said}; for each event {costs}" if costs else said

    def _count(self) -> dict[str, float]:
        return {name: sum(map(_family_seconds, pids)) for name, pids in self._pids.items()}


def _family_seconds(pid: int) -> float:
    """Processor time of a process and of all below it, those that have ended too."""
    process = psutil.Process(pid)
    alive = [process, *process.children(recursive=True)]
    return sum(_seconds(member) for member in alive) + sum(process.cpu_times()[2:4])


def _seconds(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return 0.0


def _all_busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _postmaster(server_url: str) -> int:
    with psycopg.connect(server_url) as connection:
        return psutil.Process(connection.info.backend_pid).ppid()


def _redis(redis_url: str) -> int:
    with open_stream(redis_url) as client:
        return int(client.info("server")["process_id"])
