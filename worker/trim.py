"""Keeps the stream of spend events from filling Redis, without ever removing an entry that somebody still needs.

XTRIM removes pending entries without a word. So the bound is the lowest id that any group still has to see: its lowest
pending one, or else the last one that it was given. The newest KEPT entries stay for whoever wants to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import redis

from worker.stream import GROUP, STREAM, id_order

KEPT: Final = 100_000
HELD_BACK_MIN: Final = 10 * KEPT  # so many entries over the window are worth a word


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a trim did: entries removed, entries left, and the first id that some group still needs."""

    removed: int
    length: int
    needed_from: str

    @property
    def is_held_back(self) -> bool:
        """Whether far more is left than the window, because a group is behind or has died."""
        return self.length > HELD_BACK_MIN


def trim_stream(client: redis.Redis, kept: int = KEPT) -> Trimmed:
    """Removes the oldest entries that every group is done with, down to about the newest `kept`.

    Raises `redis.RedisError`.
    """
    length = _int(client.xlen(STREAM))
    groups: Any = client.xinfo_groups(STREAM) if length > kept else []
    if GROUP.encode() not in {group["name"] for group in groups}:
        return Trimmed(0, length, "")
    needed_from = min((_first_needed(client, group) for group in groups), key=id_order)
    # LIMIT makes it remove whole blocks of entries and at most so many, so that the window needs no id of its own.
    removed = _int(client.xtrim(STREAM, minid=needed_from.decode(), approximate=True, limit=length - kept))
    return Trimmed(removed, length - removed, needed_from.decode())


def _first_needed(client: redis.Redis, group: Any) -> bytes:
    if not group["pending"]:
        return bytes(group["last-delivered-id"])
    pending: Any = client.xpending(STREAM, group["name"])
    return bytes(pending["min"] or group["last-delivered-id"])


def _int(reply: Any) -> int:
    return int(reply)
