"""Waiting for a fact instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")

_POLL_S = 0.02


def eventually(fact: Callable[[], Fact], timeout: float = 10.0) -> Fact:
    """Call ``fact`` until it returns something true and raises no ``AssertionError``; return that.

    ``timeout`` is in seconds. What was wrong the last time is raised when it is over.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = fact()
            if value:
                return value
            failure = AssertionError(f"still {value!r} after {timeout} s")
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
        time.sleep(_POLL_S)
