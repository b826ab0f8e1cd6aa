"""Every event that refill logs: its level, what it means and what to do, and its own fields.

``refill settings --events`` prints it, and a test holds it to the code in both directions. To log a new event, add a
line here, in the group of its first word. Every line also carries ``timestamp``, ``level``, ``event`` and ``process``,
the fields bound for the row at hand, and ``traceback`` where an exception is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error", "critical", "any"]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """``level`` (``any``: that of what is passed on), ``meaning`` in the past tense, and what to do where one must."""

    level: Level
    meaning: str
    fields: tuple[str, ...] = ()


_EVENTS: dict[str, LogEvent] = {
    "library.logged": LogEvent("any", "A library that refill uses had something to say.", ("logger", "message")),
    "process.crashed": LogEvent(
        "critical",
        "An exception was not caught and ended the process or a thread of it. Restart it if nothing did; report it.",
        ("code", "error"),
    ),
}

EVENTS: Final[Mapping[str, LogEvent]] = MappingProxyType(_EVENTS)
"""Name to event."""
