"""How a process is asked to end: SIGTERM or SIGINT, once; what it is doing is finished first."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Final

_LOOK_S: Final = 0.1


class StopRequest:
    """Whether somebody asked.

    A plain flag and not a threading.Event: a signal handler that runs while its own thread holds the event's lock would
    wait for itself.
    """

    def __init__(self) -> None:
        self.is_set = False

    def listen(self) -> None:
        """Takes SIGTERM and SIGINT of this process as the request. From the main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def wait(self, seconds: float) -> None:
        """Waits so long, or until asked."""
        deadline = time.monotonic() + seconds
        while not self.is_set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True
