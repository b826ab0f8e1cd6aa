"""Which processes the cores were busy with: what bounds a figure is whatever has a whole core, or all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import psutil
import psycopg

from tests.bench.ground import Ground, open_stream


class Cores:
    """Counts the processor time of Postgres, of Redis and of the named processes from when it is made."""

    def __init__(self, place: Ground, processes: Mapping[str, Sequence[int]]) -> None:
        self._pids = {"Postgres": [_postmaster(place.server_url)], "Redis": [_redis(place.redis_url)], **processes}
        self._began = time.monotonic()
        self._used, self._busy = self._count(), _all_busy()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began

    def in_words(self) -> str:
        """`2 of 2 cores busy: Postgres 1.31, Redis 0.08, intake 0.52, others 0.07`."""
        seconds, all_busy = self.seconds, _all_busy()
        cores = {name: (used - self._used[name]) / seconds for name, used in self._count().items()}
        busy, count = (all_busy - self._busy) / seconds, psutil.cpu_count() or 1
        cores["others"] = max(busy - sum(cores.values()), 0.0)
        shares = ", ".join(f"{name} {share:.2f}" for name, share in cores.items())
        return f"{min(busy, count):.2g} of {count} cores busy: {shares}"

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
