"""Waiting for pokes: in Redis and not asleep, so that the first one after a quiet time is as quick as any."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.message import Message

from tests.support.waiting import eventually
from worker.broker import IDLE_WAIT_S, LOOK_EVERY, NAMESPACE, WAITING_MAX, PokeBroker, open_broker

pytestmark = pytest.mark.acceptance

QUEUE = f"{NAMESPACE}:charges"
SOON_S = IDLE_WAIT_S / 2  # what was found only by asking again would take longer


@pytest.fixture
def broker(redis_url: str) -> PokeBroker:
    broker = open_broker(redis_url)
    assert isinstance(broker, PokeBroker)
    return broker


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def poke(broker: PokeBroker, account_id: int) -> None:
    broker.enqueue(Message[object]("charges", "evaluate", (account_id,), {}, {}))


def take(consumer: Consumer) -> MessageProxy:
    """The next message, however often none comes before it."""
    return next(message for message in consumer if message is not None)


def waits_in_redis(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return any(other["cmd"] == "blmove" for other in client.client_list())


def test_a_consumer_that_waits_is_told_at_once(
    broker: PokeBroker, redis_url: str, elsewhere: ThreadPoolExecutor
) -> None:
    consumer = broker.consume("charges")
    assert next(consumer) is None  # nothing came for its longest wait: from here on it is idle
    taken = elsewhere.submit(take, consumer)
    eventually(lambda: waits_in_redis(redis_url))
    began = time.monotonic()
    poke(broker, 1)
    assert taken.result(timeout=10).args == (1,)
    assert time.monotonic() - began < SOON_S


def test_what_one_has_taken_no_other_gets(broker: PokeBroker, redis_url: str) -> None:
    poke(broker, 1)
    assert take(broker.consume("charges")).args == (1,)
    assert next(open_broker(redis_url).consume("charges")) is None


def test_waiting_leaves_the_order_as_it_is(broker: PokeBroker) -> None:
    for account_id in (1, 2, 3):
        poke(broker, account_id)
    consumer = broker.consume("charges", prefetch=1)
    taken = []
    for _ in range(3):
        message = take(consumer)
        taken.append(message.args[0])
        consumer.ack(message)
    assert taken == [1, 2, 3]


def test_one_with_its_hands_full_goes_on_as_soon_as_one_is_free(
    broker: PokeBroker, elsewhere: ThreadPoolExecutor
) -> None:
    for account_id in (1, 2):
        poke(broker, account_id)
    consumer = broker.consume("charges", prefetch=1)
    first = take(consumer)
    assert next(consumer) is None  # full
    taken = elsewhere.submit(take, consumer)
    began = time.monotonic()
    consumer.ack(first)
    assert taken.result(timeout=10).args == (2,)
    assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize(
    "more", [{"queue_name": "nowhere"}, {"options": {"eta": 2**62}}], ids=["of no queue", "to wait"]
)
def test_what_a_worker_could_not_end_goes_to_the_dead(broker: PokeBroker, more: dict[str, Any]) -> None:
    """Written past our own sender: a thread of dramatiq dies of the one, and the other keeps a place in hand."""
    strange = Message[object]("charges", "evaluate", (1,), {}, {}).copy(**more)
    strange = strange.copy(options={"redis_message_id": "strange"})
    broker.do_enqueue("charges", "strange", strange.encode())
    poke(broker, 2)
    assert take(broker.consume("charges", prefetch=1)).args == (2,)
    assert broker.client.zrange("refill:pokes:charges.XQ", 0, -1) == [b"strange"]


def test_what_cannot_be_read_holds_up_nothing_that_was_fetched_with_it(broker: PokeBroker) -> None:
    for rubbish in (b"", b"\xff", b"[1]", b"{}"):
        broker.do_enqueue("charges", f"rubbish {rubbish!r}", rubbish)
    poke(broker, 2)
    assert take(broker.consume("charges", prefetch=10)).args == (2,)


def test_a_queue_that_nobody_empties_has_an_end(broker: PokeBroker) -> None:
    oldest = [f"oldest {number}" for number in range(3)]
    with broker.client.pipeline() as pipeline:
        pipeline.rpush(QUEUE, *oldest, *range(WAITING_MAX - LOOK_EVERY))
        pipeline.hset(f"{QUEUE}.msgs", mapping=dict.fromkeys(oldest, ""))
        pipeline.execute()
    for account_id in range(LOOK_EVERY):
        poke(broker, account_id)
    assert broker.lengths(["charges"]) == {"charges": WAITING_MAX}
    assert broker.client.lindex(QUEUE, 0) == b"0"
    assert broker.client.hlen(f"{QUEUE}.msgs") == LOOK_EVERY
