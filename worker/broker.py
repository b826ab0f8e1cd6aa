"""The Dramatiq broker that carries pokes: Redis here, RabbitMQ in `worker.rabbit`.

A poke says "look at row N now"; losing one costs time, never truth.

One queue for each outside system that may keep us waiting, so that a silent mail server holds back no card:

    charges   the card processor: evaluate, advance, and the sweep over charges
    mail      the mail server: deliver, and the sweep over messages
    ledger    Postgres and Redis alone: publish, and every other job

What was found by running Dramatiq's Redis broker, and what follows from it here:

- its consumer asks again and again, with pauses: quick is dear and cheap is slow. Here each poke rings a bell, on
which
  an idle consumer waits inside Redis: a poke is taken up in two milliseconds, and waiting costs nearly nothing;
- delayed messages are orphaned when Redis restarts: nothing is ever delayed, so there are no queues for them;
- a killed worker's messages come back late, through maintenance that runs by chance: a sweep has found the row
before;
- TimeLimit raises past `except Exception`, Retries hides what failed: neither is used. The sweep is the retry;
- a queue that nobody emptied for a while would be worked off stale: a poke older than MAX_AGE_MS is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import redis
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message
from dramatiq.middleware import AgeLimit
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.errors import BrokerUnavailable
from worker.outage import Outage

if TYPE_CHECKING:
    from worker.rabbit import RabbitBroker

AnyBroker: TypeAlias = "PokeBroker | RabbitBroker"

NAMESPACE: Final = "refill:pokes"
BELL_WAIT_S: Final = 0.25  # then it looks anyway: the bell may have woken a worker that had its hands full
BELLS_KEPT: Final = 64
HEARTBEAT_TIMEOUT_MS: Final = 60_000
MAINTENANCE_CHANCE: Final = 10_000  # in a million requests: about every quarter of a minute for an idle queue
DEAD_MESSAGE_MS: Final = 3_600_000
MAX_AGE_MS: Final = 600_000
_ANSWER_S: Final = 10
_CONNECT_S: Final = 5
_LOOK_MS: Final = 1


class BellConsumer(Consumer):
    """Dramatiq's own consumer, which waits for the bell where it finds nothing."""

    def __init__(self, looks: Consumer, client: redis.Redis, bell: str) -> None:
        self._looks = looks
        self._client = client
        self._bell = bell

    def __next__(self) -> MessageProxy | None:
        """The next message, or None where nothing came for BELL_WAIT_S. Raises dramatiq's ConnectionClosed."""
        try:
            message: MessageProxy | None = next(self._looks)
            if message is None:
                self._client.blpop([self._bell], BELL_WAIT_S)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        return message

    def ack(self, message: MessageProxy) -> None:
        self._looks.ack(message)

    def nack(self, message: MessageProxy) -> None:
        self._looks.nack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        self._looks.requeue(messages)

    def close(self) -> None:
        self._looks.close()


class PokeBroker(RedisBroker):
    """Dramatiq's Redis broker with bells, and without queues for delayed messages."""

    dependency: Final = "redis"
    losses: Final = (redis.RedisError,)  # what `enqueue` raises while Redis is lost

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=client,
            middleware=[AgeLimit(max_age=MAX_AGE_MS)],
            namespace=NAMESPACE,
            maintenance_chance=MAINTENANCE_CHANCE,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
            dead_message_ttl=DEAD_MESSAGE_MS,
        )
        self._outage = Outage(self.dependency)
        self._pause_s = 0.0
        self._closing = threading.Event()

    def declare_queue(self, queue_name: str) -> None:
        """Declares the queue alone: pokes are never delayed."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[object], *, delay: int | None = None) -> Message[object]:
        """Puts the message into its queue and rings. Raises ``redis.RedisError``, and ValueError for a delay."""
        if delay is not None:
            raise ValueError("a poke is never delayed: what is due later is a row with its time")
        enqueued: Message[object] = super().enqueue(message)
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.rpush(_bell(message.queue_name), 1)
            pipeline.ltrim(_bell(message.queue_name), -BELLS_KEPT, -1)
            pipeline.execute()
        return enqueued

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> Consumer:
        """Waits until Redis answers, and then consumes: a lost Redis is said once, not at every try."""
        while not self._closing.is_set() and not self._answers():
            self._closing.wait(self._pause_s)
        return BellConsumer(super().consume(queue_name, prefetch, _LOOK_MS), self.client, _bell(queue_name))

    def lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """How many pokes wait in each of these queues. Changes nothing. Raises BrokerUnavailable."""
        try:
            return {queue: cast(int, self.client.llen(f"{NAMESPACE}:{queue}")) for queue in queues}
        except redis.RedisError as error:
            raise BrokerUnavailable(f"Redis, the broker, does not answer: {error}") from error

    def check(self) -> None:
        """Raises BrokerUnavailable where Redis does not answer."""
        try:
            self.client.ping()
        except redis.RedisError as error:
            raise BrokerUnavailable(f"Redis, the broker, does not answer: {error}") from error

    def close(self) -> None:
        """Ends waiting for Redis."""
        self._closing.set()

    def _answers(self) -> bool:
        try:
            self.client.ping()
        except redis.RedisError as error:
            self._pause_s = self._outage.note(error)
            return False
        self._outage.over()
        return True


def _bell(queue_name: str) -> str:
    return f"{NAMESPACE}:{queue_name}.bell"


def open_broker(url: str) -> AnyBroker:
    """The broker at this URL, Redis or RabbitMQ; it connects when first used. Raises ValueError for a URL with an
    option that RabbitMQ's client does not know."""
    if url.startswith("amqp"):
        from worker.rabbit import RabbitBroker  # its client costs memory that nobody pays who does not use it

        return RabbitBroker(url)
    # One immediate second try: after a restart of Redis every connection in the pool is a dead one.
    return PokeBroker(
        redis.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 1),
            socket_timeout=_ANSWER_S,
            socket_connect_timeout=_CONNECT_S,
            client_name="refill",
        )
    )
