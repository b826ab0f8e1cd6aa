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
    "dependency.lost": LogEvent(
        "error",
        "Redis or Postgres does not do its work. Said once; it is tried again until it does. Nothing is lost meanwhile.",
        ("dependency", "code", "error"),
    ),
    "dependency.regained": LogEvent("info", "It works again, after so long.", ("dependency", "duration_ms")),
    "intake.consumer_removed": LogEvent(
        "info", "A consumer that was silent and had nothing pending was removed from its group.", ("consumer",)
    ),
    "intake.group_created": LogEvent(
        "warning",
        "The stream had no group, because it is new or because Redis was emptied; it is read from its first entry.",
    ),
    "intake.started": LogEvent("info", "The intake began to read the stream of spend events.", ("consumer",)),
    "intake.stopped": LogEvent("info", "The intake finished its batch and ended, as it was asked to.", ("consumer",)),
    "library.logged": LogEvent("any", "A library that refill uses had something to say.", ("logger", "message")),
    "process.crashed": LogEvent(
        "critical",
        "An exception was not caught and ended the process or a thread of it. Restart it if nothing did; report it.",
        ("code", "error"),
    ),
    "spend.accounts_freed": LogEvent(
        "info", "Accounts are no longer locked; what was put aside is posted now.", ("count", "accounts")
    ),
    "spend.accounts_locked": LogEvent(
        "warning",
        "Another transaction keeps accounts locked; their events are put aside, the others go on. Look for an upstream "
        "that leaves a transaction open after refill.spend().",
        ("count", "accounts"),
    ),
    "spend.batch_posted": LogEvent(
        "info",
        "A batch of spend events is in the ledger: how many of each outcome, and from and to which stream entry.",
        (
            "count",
            "accepted",
            "insufficient_credit",
            "unknown_account",
            "account_closed",
            "malformed",
            "conflict",
            "put_aside",
            "quarantined",
            "first_stream_id",
            "last_stream_id",
            "duration_ms",
        ),
    ),
    "spend.entries_claimed": LogEvent(
        "info", "Entries of a consumer that fell silent are being posted by this one.", ("count", "consumer")
    ),
    "spend.entries_lost": LogEvent(
        "error",
        "Entries were removed from the stream before they were posted: somebody trims it. Upstream must send them again.",
        ("count", "stream_ids"),
    ),
    "spend.event_quarantined": LogEvent(
        "warning",
        "A stream entry could not be posted; it is in refill.quarantine as it came. Tell whoever sent it.",
        ("stream_id", "code", "detail"),
    ),
    "spend.events_refused": LogEvent(
        "info",
        "Events of a batch had this outcome: the first ids; all are in refill.spend_outcome.",
        ("code", "count", "event_ids"),
    ),
    "spend.field_ignored": LogEvent(
        "warning", "Upstream sends a field that this release does not know. Said once for each name.", ("field",)
    ),
    "stream.held_back": LogEvent(
        "warning",
        "The stream of spend events grows: a group is behind or was left behind. Remove a group that nobody reads.",
        ("length", "needed_from"),
    ),
}

EVENTS: Final[Mapping[str, LogEvent]] = MappingProxyType(_EVENTS)
"""Name to event."""
