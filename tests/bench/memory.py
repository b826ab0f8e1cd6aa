"""How much memory processes take, looked at again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from statistics import median
from types import TracebackType
from typing import NamedTuple

import psutil

_EVERY_S = 0.05
_MB = 1_000_000


class Look(NamedTuple):
    """Megabytes (10**6) that a process held in memory at a moment."""

    at: float
    megabytes: float


class Memory:
    """Looks at the processes while its block runs. The size of one is that of all below it, too."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.looks: Mapping[str, list[Look]] = {name: [] for name in pids}
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            for name, process in self._processes.items():
                self.looks[name].append(Look(time.monotonic(), _megabytes(process)))

    def peak(self, name: str) -> float:
        """The most that it took at any look."""
        return max(look.megabytes for look in self.looks[name])

    def between(self, name: str, since: float, until: float) -> list[float]:
        """What it took at the looks between two moments of the monotonic clock."""
        return [look.megabytes for look in self.looks[name] if since <= look.at <= until]


def growth(sizes: Sequence[float]) -> float:
    """By how much the last fifth of some sizes exceeds the second fifth: the first is a process that settles in."""
    fifth = max(len(sizes) // 5, 1)
    return median(sizes[-fifth:]) - median(sizes[fifth : 2 * fifth] or sizes)


def _megabytes(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    return sum(_resident(member) for member in family) / _MB


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
