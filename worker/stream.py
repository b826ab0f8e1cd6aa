"""The stream `refill:spend` in Redis, as one member of the consumer group `refill` sees it.

Redis hands an entry to one consumer and keeps it as pending until it is acknowledged. What can happen to it:

    new      -> pending of a consumer         `read_new`
    pending  -> gone                          `acknowledge`, after the ledger has it
    pending  -> pending as before             `keep`, while its consumer lives: the time that it is pending begins anew
    pending  -> pending of another consumer   `claim`, where its own has been silent for too long
    pending  -> lost                          somebody trimmed the stream: the id is left without its fields

Redis before 7 does not say which of the claimed entries are lost: a claim only moves ids, and `read_pending` then finds
both what is there and what is lost. Redis from 7 on lets go of lost entries when they are claimed, and says which.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.utils import HIREDIS_AVAILABLE

STREAM: Final = "refill:spend"
GROUP: Final = "refill"
FIRST: Final = b"0"  # where a group begins and where reading one's pending entries begins

READING_MS: Final = 15_000  # a consumer that has not said for so long that it reads does not

_CLAIM_END: Final = b"0-0"
_PAGE: Final = 1_000
_ANSWER_S: Final = 10  # longer than any wait for new entries
_CONNECT_S: Final = 5

# One step inside Redis, so that no entry can be delivered to a consumer between the look and its removal.
_REMOVE_IDLE = """
local removed = {}
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
    if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) and consumer.name ~= ARGV[3] then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
        removed[#removed + 1] = consumer.name
    end
end
return removed
"""

# One step too, so that nothing is taken back that another consumer has claimed in between.
_KEEP = """
local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0}
local mine = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4], ARGV[2])
if #mine == 0 then return {0, {}} end
for _, entry in ipairs(mine) do claim[#claim + 1] = entry[1] end
claim[#claim + 1] = 'JUSTID'
local kept, lost = {}, {}
for _, id in ipairs(redis.call(unpack(claim))) do kept[id] = true end
for _, entry in ipairs(mine) do
    if not kept[entry[1]] then lost[#lost + 1] = entry[1] end
end
return {#mine, lost}
"""


def reading_key(consumer: str) -> str:
    """The key that exists while this consumer reads the stream."""
    return f"{STREAM}:reading:{consumer}"


class Entry(NamedTuple):
    """One entry as it came: `fields` are names and values in turn."""

    stream_id: bytes
    fields: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Entries to be posted, and the ids of entries that are lost: pending, but no longer in the stream."""

    entries: Sequence[Entry]
    lost: Sequence[bytes] = ()

    @property
    def last_id(self) -> bytes | None:
        """The highest id of all, or None where there is nothing."""
        ids = [entry.stream_id for entry in self.entries[-1:]] + list(self.lost[-1:])
        return max(ids, key=id_order, default=None)


class Claimed(NamedTuple):
    """How many entries were claimed, and the ids of those that Redis let go because they are lost."""

    entries: int
    lost: list[bytes]


def id_order(stream_id: bytes) -> tuple[int, int]:
    """What orders stream ids: milliseconds, then the number within them."""
    milliseconds, _, number = stream_id.partition(b"-")
    return int(milliseconds), int(number or 0)


def consumer_name() -> str:
    """A name that no other process has or had, on any machine."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def parser() -> str:
    """What reads the replies of Redis: `hiredis`, or `python`, a third as fast, where that is too old or missing."""
    return "hiredis" if HIREDIS_AVAILABLE else "python"


def open_redis(url: str) -> redis.Redis:
    """A client for streams. It connects when first used.

    The client's own retries are off: an answer that is lost on its way carries entries that are pending from then on,
    and only the caller knows to look for them.
    """
    client = redis.Redis.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=_ANSWER_S,
        socket_connect_timeout=_CONNECT_S,
        client_name="refill",
    )
    # The reply as it is: a dictionary for each of millions of entries is work that reading them repeats.
    client.set_response_callback("XREADGROUP", lambda reply, **_: reply)
    client.set_response_callback("XAUTOCLAIM", lambda reply, **_: reply)
    return client


class SpendStream:
    """The stream for one consumer. Every method raises `redis.RedisError` where Redis cannot do it."""

    def __init__(self, client: redis.Redis, consumer: str) -> None:
        self._client = client
        self.consumer = consumer

    def ensure_group(self) -> bool:
        """Makes the stream and its group where they are missing, from the first entry on, and says whether it did."""
        try:
            self._client.xgroup_create(STREAM, GROUP, FIRST, mkstream=True)
        except redis.ResponseError as error:
            if str(error).startswith("BUSYGROUP"):
                return False
            raise
        return True

    def read_new(self, count: int, block_ms: int) -> Delivery:
        """Entries that no consumer was given yet; waits up to `block_ms` for the first."""
        return _delivery(self._client.xreadgroup(GROUP, self.consumer, {STREAM: ">"}, count, block_ms))

    def say_reading(self) -> None:
        """Says that it reads, to be said again within READING_MS.

        Redis before 7 does not count a read that finds nothing as a sign of life.
        """
        self._client.set(reading_key(self.consumer), 1, px=READING_MS)

    def read_pending(self, count: int, after: bytes) -> Delivery:
        """Entries that this consumer was given and has not acknowledged, after this id."""
        return _delivery(self._client.xreadgroup(GROUP, self.consumer, {STREAM: after}, count))

    def acknowledge(self, ids: Sequence[bytes]) -> None:
        """Ends the pending state of these entries."""
        if ids:
            self._client.xack(STREAM, GROUP, *ids)

    def keep(self, idle_ms: int) -> list[bytes]:
        """Makes known that this consumer still has its entries in hand, those that were pending for `idle_ms`.

        Returns the ids of those that were lost meanwhile, where Redis lets go of them here (7 and later).
        """
        lost: list[bytes] = []
        while True:
            reply: Any = self._client.eval(_KEEP, 1, STREAM, GROUP, self.consumer, idle_ms, _PAGE)
            lost += reply[1]
            if reply[0] < _PAGE:
                return lost

    def claim(self, idle_s: int, count: int) -> Claimed:
        """Makes about `count` entries this consumer's own that nobody touched for `idle_s` seconds."""
        start, claimed = FIRST, Claimed(0, [])
        while claimed.entries < count:
            reply: Any = self._client.xautoclaim(
                STREAM, GROUP, self.consumer, idle_s * 1000, start.decode(), count, justid=True
            )
            start, lost = reply[0], reply[2] if len(reply) > 2 else []
            claimed = Claimed(claimed.entries + len(reply[1]), claimed.lost + lost)
            if start == _CLAIM_END:
                break
        return claimed

    def remove_idle_consumers(self, idle_s: int) -> list[str]:
        """Removes consumers that have nothing pending and were silent for `idle_s` seconds; returns their names."""
        reply: Any = self._client.eval(_REMOVE_IDLE, 1, STREAM, GROUP, idle_s * 1000, self.consumer)
        return [name.decode() for name in reply]


def is_group_missing(error: redis.ResponseError) -> bool:
    """Whether the stream or its group is gone: Redis was emptied, also while a read was waiting."""
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))


def _delivery(reply: Any) -> Delivery:
    if not reply:
        return Delivery(())
    rows = reply[0][1]
    lost = [stream_id for stream_id, fields in rows if fields is None]
    there = [row for row in rows if row[1] is not None] if lost else rows
    return Delivery(list(map(Entry._make, there)), lost)
