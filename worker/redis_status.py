"""How refill is, as far as Redis and the broker know: what waits in the stream of spend events, who reads it, and the
queues of pokes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from jobs.errors import BrokerUnavailable
from worker.broker import AnyBroker
from worker.pokes import QUEUES
from worker.stream import GROUP, STREAM, reading_key

COUNTED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """The stream `refill:spend`. ``waiting`` entries were not read yet (COUNTED_MAX and one: more than that),
    ``pending`` were read and are not in the ledger yet; ``oldest_s`` is how long the first of both has been there.
    ``intakes`` say that they read it.
    """

    exists: bool
    waiting: int
    pending: int
    oldest_s: float | None
    intakes: int


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """What carries the pokes, ``redis`` or ``rabbitmq``, and how many lie in each queue."""

    kind: str
    queues: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RedisStatus:
    """Redis and, which may be another system, the broker: None for what does not answer."""

    stream: StreamStatus | None
    broker: BrokerStatus | None


def look(stream: redis.Redis, broker: AnyBroker) -> RedisStatus:
    """The state of both now. Changes nothing."""
    return RedisStatus(_stream_or_none(stream), _broker_or_none(broker))


def _stream_or_none(client: redis.Redis) -> StreamStatus | None:
    try:
        return _stream(client)
    except redis.RedisError:
        return None  # that it does not answer is what there is to say


def _broker_or_none(broker: AnyBroker) -> BrokerStatus | None:
    try:
        return BrokerStatus(broker.dependency, broker.lengths(QUEUES))
    except BrokerUnavailable:
        return None


def _stream(client: redis.Redis) -> StreamStatus:
    groups: Any = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
    group = next((one for one in groups if one["name"] == GROUP.encode()), None)
    if group is None:
        return StreamStatus(exists=False, waiting=0, pending=0, oldest_s=None, intakes=0)
    after = group["last-delivered-id"].decode()
    unread: Any = client.xrange(STREAM, f"({after}", count=COUNTED_MAX + 1)
    pending: Any = client.xpending(STREAM, GROUP)
    first_ids = [entry_id for entry_id, _ in unread[:1]] + [pending["min"]] * bool(pending["pending"])
    return StreamStatus(
        exists=True,
        waiting=len(unread),
        pending=int(pending["pending"]),
        oldest_s=_age_s(client, first_ids),
        intakes=_reading(client),
    )


def _reading(client: redis.Redis) -> int:
    """How many intakes say that they read. The group is not asked: before Redis 7 it forgets who found nothing."""
    return sum(1 for _ in client.scan_iter(match=reading_key("*"), count=1_000))


def _age_s(client: redis.Redis, ids: list[bytes]) -> float | None:
    """How old the oldest of these entries is, by Redis's own clock, which made their ids."""
    if not ids:
        return None
    now: Any = client.time()
    oldest_ms = min(int(entry_id.split(b"-")[0]) for entry_id in ids)
    return max(0.0, float(now[0]) + float(now[1]) / 1e6 - oldest_ms / 1000)
