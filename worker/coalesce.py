"""Many equal pokes in a short time are one: the first is passed on at once, and one more where others followed it.

The one that follows matters: it may stand for a change that the first one's handler did not see yet.
"""

from __future__ import annotations


class Coalescer:
    """Times are seconds of any steady clock."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._quiet_until: dict[str, float] = {}
        self._waiting: set[str] = set()

    def offer(self, payload: str, now: float) -> bool:
        """Whether the payload is to be passed on now; otherwise `due` returns it when its window is over."""
        if now >= self._quiet_until.get(payload, now):
            self._quiet_until[payload] = now + self._window_s
            return True
        self._waiting.add(payload)
        return False

    def due(self, now: float) -> list[str]:
        """The payloads that waited and whose window is over, each once; each opens a new window."""
        ready = sorted(payload for payload in self._waiting if now >= self._quiet_until[payload])
        self._waiting.difference_update(ready)
        self._quiet_until = {payload: until for payload, until in self._quiet_until.items() if until > now}
        self._quiet_until |= dict.fromkeys(ready, now + self._window_s)
        return ready

    @property
    def is_waiting(self) -> bool:
        """Whether `due` will return something when the window is over."""
        return bool(self._waiting)
