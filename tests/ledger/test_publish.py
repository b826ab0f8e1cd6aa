"""Events are numbered in commit order and written to the stream at least once, in that order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import pytest
import redis

from jobs.ledger.database import Connection, connect
from jobs.publish import CURSOR, number_events, published_up_to, sole_publisher
from tests.support.seed import count, load_examples, open_account
from worker.publisher import STREAM, StreamNotOurs, publish

AT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def ledger(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        load_examples(connection)
        yield connection


@pytest.fixture
def stream(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def record(connection: Connection, kind: str, account_id: int | None = None, **data: object) -> None:
    connection.execute("select refill.record_event(%s, %s, %s, %s::jsonb)", (kind, account_id, AT, json.dumps(data)))


def kinds(ledger: Connection) -> list[tuple[int, str]]:
    return ledger.execute("select seq, type from refill.event order by seq").fetchall()


def entries(stream: redis.Redis) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", stream.xrange(STREAM))


def streamed(stream: redis.Redis) -> list[bytes]:
    return [entry_id for entry_id, _ in entries(stream)]


def test_numbers_follow_the_order_of_commits_and_not_of_writing(ledger: Connection, database: str) -> None:
    with connect(database) as slow, slow.transaction():
        record(slow, "written.first")
        record(ledger, "committed.first")
        assert number_events(ledger, 10) == 1
    record(ledger, "committed.last")
    assert number_events(ledger, 10) == 2
    assert [kind for _, kind in kinds(ledger)] == ["committed.first", "written.first", "committed.last"]


def test_numbers_have_no_gaps_though_ids_have(ledger: Connection) -> None:
    record(ledger, "a")
    with ledger.transaction(force_rollback=True):
        record(ledger, "rolled.back")
    record(ledger, "b")
    number_events(ledger, 1)
    number_events(ledger, 1)
    assert kinds(ledger) == [(1, "a"), (2, "b")]


def test_an_entry_of_the_stream_says_what_the_view_says(ledger: Connection, stream: redis.Redis) -> None:
    record(ledger, "balance.low", open_account(ledger, "points-1"), balance=7)
    assert publish(ledger, stream) == 1
    [(entry_id, fields)] = entries(stream)
    assert entry_id == b"1-0"
    assert fields == {
        b"seq": b"1",
        b"at": b"2030-01-01T00:00:00Z",
        b"type": b"balance.low",
        b"account": b"points-1",
        b"data": b'{"balance": 7}',
    }


def test_publishing_in_small_batches_leaves_nothing_out(ledger: Connection, stream: redis.Redis) -> None:
    for place in range(7):
        record(ledger, f"event.{place}")
    assert publish(ledger, stream, batch=3) == 7
    assert streamed(stream) == [f"{seq}-0".encode() for seq in range(1, 8)]
    assert publish(ledger, stream) == 0


def test_a_kill_before_the_cursor_moved_repeats_nothing(ledger: Connection, stream: redis.Redis) -> None:
    record(ledger, "a")
    record(ledger, "b")
    publish(ledger, stream)
    ledger.execute("update refill.cursor set value = 0 where name = %s", (CURSOR,))
    record(ledger, "c")
    publish(ledger, stream)
    assert streamed(stream) == [b"1-0", b"2-0", b"3-0"]
    assert published_up_to(ledger) == 3


def test_events_that_a_reader_has_trimmed_already_are_passed(ledger: Connection, stream: redis.Redis) -> None:
    record(ledger, "a")
    publish(ledger, stream)
    stream.xtrim(STREAM, maxlen=0, approximate=False)
    ledger.execute("update refill.cursor set value = 0 where name = %s", (CURSOR,))
    record(ledger, "b")
    publish(ledger, stream)
    assert streamed(stream) == [b"2-0"]


def test_a_redis_that_came_back_empty_gets_the_newest_events_again(ledger: Connection, stream: redis.Redis) -> None:
    record(ledger, "a")
    record(ledger, "b")
    publish(ledger, stream)
    stream.flushall()
    record(ledger, "c")
    publish(ledger, stream)
    assert streamed(stream) == [b"1-0", b"2-0", b"3-0"]


def test_a_stream_of_another_ledger_is_refused_and_left_alone(ledger: Connection, stream: redis.Redis) -> None:
    stream.xadd(STREAM, {"seq": "1"}, id="1-0")
    record(ledger, "a")
    with pytest.raises(StreamNotOurs):
        publish(ledger, stream)
    assert stream.xlen(STREAM) == 1
    assert published_up_to(ledger) == 0


def test_a_stream_that_is_past_our_numbers_is_refused(ledger: Connection, stream: redis.Redis) -> None:
    stream.xadd(STREAM, {"seq": "900"}, id="900-0")
    record(ledger, "a")
    with pytest.raises(StreamNotOurs):
        publish(ledger, stream)


def test_an_error_of_redis_that_is_no_duplicate_is_raised(ledger: Connection, stream: redis.Redis) -> None:
    stream.set(STREAM, "somebody's string")
    record(ledger, "a")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        publish(ledger, stream)
    assert published_up_to(ledger) == 0


def test_two_publishers_at_once_are_one(ledger: Connection, database: str, stream: redis.Redis) -> None:
    record(ledger, "a")
    with connect(database) as other:
        with sole_publisher(other) as is_sole:
            assert is_sole
            assert publish(ledger, stream) == 0
        assert publish(ledger, stream) == 1
    assert count(ledger, "select count(*) from refill.event") == 1
