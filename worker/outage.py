"""Something outside that is gone for a while: said once when it goes, once when it is back, and waited for."""

from __future__ import annotations

import time
from typing import Final

import structlog

from jobs.ledger.database import first_line

log = structlog.get_logger()

_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 5.0


class Outage:
    """The state of one dependency, named in the events `dependency.lost` and `dependency.regained`."""

    def __init__(self, dependency: str) -> None:
        self._dependency = dependency
        self._since: float | None = None
        self._kind: type[Exception] | None = None
        self._wait_s = _FIRST_WAIT_S

    @property
    def is_on(self) -> bool:
        """Whether it is gone."""
        return self._since is not None

    def note(self, error: Exception) -> float:
        """Takes note of a failure and returns how many seconds to wait before the next try.

        Only the first failure is logged, and one of another kind than the failure before it.
        """
        if self._since is None:
            self._since, self._wait_s = time.monotonic(), _FIRST_WAIT_S
        if type(error) is not self._kind:
            self._kind = type(error)
            log.error("dependency.lost", dependency=self._dependency, code=_code(error), error=first_line(error))
        wait_s, self._wait_s = self._wait_s, min(self._wait_s * 2, _LONGEST_WAIT_S)
        return wait_s

    def over(self) -> None:
        """Takes note that it works."""
        if self._since is not None:
            missed_ms = round((time.monotonic() - self._since) * 1000)
            log.info("dependency.regained", dependency=self._dependency, duration_ms=missed_ms)
            self._since = self._kind = None


def _code(error: Exception) -> str:
    return getattr(error, "sqlstate", None) or getattr(error, "code", None) or type(error).__name__
