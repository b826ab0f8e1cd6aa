"""Writes numbered events to the Redis stream `refill:events`: at least once, in the order of `seq`.

    number -> XADD with the id `<seq>-0` -> move the cursor

Redis refuses an id that is not above the stream's last one, so that order and "once" are its own guarantee, whoever
else writes. A kill between XADD and the cursor makes the next pass send the batch again: each of it is refused,
recognised by its content, and passed. A stream that is gone (Redis lost and empty) begins again some events before
the cursor, for readers that had not read them yet; one whose next id is taken by something else is not ours, and
nothing is written to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import redis
import structlog
from redis.typing import EncodableT, FieldT

from jobs.errors import RefillError
from jobs.ledger.database import Connection
from jobs.publish import (
    Event,
    events_after,
    last_number,
    number_events,
    published_up_to,
    record_published,
    sole_publisher,
)

log = structlog.get_logger()

STREAM: Final = "refill:events"
BATCH: Final = 1_000
STREAM_LENGTH_MAX: Final = 1_000_000
REPEATED_AFTER_LOSS: Final = 10_000

Entries: TypeAlias = Sequence[tuple[bytes, dict[bytes, bytes]]]


class StreamNotOurs(RefillError):
    """The stream `refill:events` holds other events under our next numbers: it belongs to another ledger."""

    code = "stream_not_ours"


def publish(connection: Connection, stream: redis.Redis, batch: int = BATCH) -> int:
    """Numbers and publishes everything that waits and returns how many events were written to the stream.

    Returns 0 at once where another process is publishing. Raises StreamNotOurs, and what the drivers raise where
    Postgres or Redis is lost: the next pass goes on where this one stopped.
    """
    while number_events(connection, batch) == batch:
        continue
    with sole_publisher(connection) as is_sole:
        return _publish_waiting(connection, stream, batch) if is_sole else 0


def _publish_waiting(connection: Connection, stream: redis.Redis, batch: int) -> int:
    seq, count, newest = _start(connection, stream), 0, last_number(connection)
    while events := events_after(connection, seq, batch):
        _write(stream, events, max(newest, events[-1].seq))
        seq, count = events[-1].seq, count + len(events)
        record_published(connection, seq)
    if count:
        log.info("events.published", count=count, seq=seq)
    return count


def _start(connection: Connection, stream: redis.Redis) -> int:
    """The `seq` to go on after: the cursor, or some way before it where the stream was lost."""
    cursor = published_up_to(connection)
    if cursor == 0 or stream.exists(STREAM):
        return cursor
    start = max(0, cursor - REPEATED_AFTER_LOSS)
    log.warning("events.stream_lost", seq=cursor, repeated=cursor - start)
    return start


def _write(stream: redis.Redis, events: Sequence[Event], newest: int) -> None:
    with stream.pipeline(transaction=False) as pipeline:
        for event in events:
            pipeline.xadd(STREAM, _fields(event), id=_stream_id(event), maxlen=STREAM_LENGTH_MAX, approximate=True)
        answers = pipeline.execute(raise_on_error=False)
    for event, answer in zip(events, answers, strict=True):
        if isinstance(answer, redis.ResponseError):
            _recognise(stream, event, newest, answer)
        elif isinstance(answer, Exception):
            raise answer


def _recognise(stream: redis.Redis, event: Event, newest: int, refusal: redis.ResponseError) -> None:
    """Accept a refused XADD whose event is in the stream already, by content and not by the words of the refusal.

    An event that is nowhere although its number has been passed was trimmed by a reader, unless the stream is past
    our own ``newest`` number. Raises StreamNotOurs, or the refusal where it had another cause.
    """
    entries = cast("Entries", stream.xrange(STREAM, _stream_id(event), _stream_id(event)))
    found = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]
    if found == [_fields(event)]:
        return
    top = _top(stream)
    if top < event.seq:
        raise refusal
    if found or top > newest:
        raise StreamNotOurs(f"The stream {STREAM} holds something else under our number {event.seq}.") from refusal


def _top(stream: redis.Redis) -> int:
    described = cast("dict[str, bytes]", stream.xinfo_stream(STREAM))
    return int(described["last-generated-id"].split(b"-")[0])


def _fields(event: Event) -> dict[FieldT, EncodableT]:
    return {
        "seq": str(event.seq),
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "type": event.type,
        "account": event.account or "",
        "data": event.data,
    }


def _stream_id(event: Event) -> str:
    return f"{event.seq}-0"
