"""The Dramatiq broker that carries pokes: Redis here, RabbitMQ in `worker.rabbit`.

A poke says "look at row N now"; losing one costs time, never truth.

One queue for each outside system that may keep us waiting, so that a silent mail server holds back no card:

    charges   the card processor: evaluate, advance, and the sweep over charges
    mail      the mail server: deliver, and the sweep over messages
    ledger    Postgres and Redis alone: publish, and every other job

What was found by running Dramatiq's Redis broker, and what follows from it here:

- its consumer asks again and again, with pauses that grow to a second: the first poke after a quiet time is late. Here
  a consumer waits inside Redis for something in its queue: a poke is taken up in a millisecond, however long it was
  quiet, and waiting costs nearly nothing. One that has its hands full goes on as soon as one of them is free;
- delayed messages are orphaned when Redis restarts: nothing is ever delayed, so there are no queues for them;
- a killed worker's messages come back late, through maintenance that runs by chance: a sweep has found the row
before;
- TimeLimit raises past `except Exception`, Retries hides what failed: neither is used. The sweep is the retry;
- a queue that nobody emptied for a while would be worked off stale: a poke older than MAX_AGE_MS is dropped;
- a queue that nobody empties at all has no end, in the memory that spend events need: here it has one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

import redis
import structlog
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed, DecodeError
from dramatiq.message import Message
from dramatiq.middleware import AgeLimit
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.errors import BrokerUnavailable
from worker.outage import Outage

log = structlog.get_logger()

if TYPE_CHECKING:
    from worker.rabbit import RabbitBroker

AnyBroker: TypeAlias = "PokeBroker | RabbitBroker"

NAMESPACE: Final = "refill:pokes"
IDLE_WAIT_S: Final = 1  # then it asks anyway, as a sign of life; for so long it does not see that it is to stop
HEARTBEAT_TIMEOUT_MS: Final = 60_000
MAINTENANCE_CHANCE: Final = 40_000  # in a million requests: about twice a minute for an idle queue
DEAD_MESSAGE_MS: Final = 3_600_000
MAX_AGE_MS: Final = 600_000
WAITING_MAX: Final = 100_000  # in one queue; the oldest go first, and the sweeps find their rows
LOOK_EVERY: Final = 1_000  # pokes sent, to see whether more wait
_ANSWER_S: Final = 10
_CONNECT_S: Final = 5
_LOOK_MS: Final = 1

UNREADABLE: Final = (DecodeError, TypeError, KeyError)  # what dramatiq raises for bytes that are no message
NOT_OURS: Final = "nobody here sends such a message"


def is_poke(message: MessageProxy, queue_name: str) -> bool:
    """Whether the message is one that a worker of this queue can end.

    Of one that names another queue dramatiq's thread dies when it is done, and one that is to wait keeps a place of
    those in hand: a few of either, whoever wrote them, and the worker lives on without doing anything.
    """
    return message.queue_name == queue_name and "eta" not in message.options


_DROP_OLDEST: Final = """
local excess = redis.call('LLEN', KEYS[1]) - tonumber(ARGV[1])
for _ = 1, excess do redis.call('HDEL', KEYS[2], redis.call('LPOP', KEYS[1])) end
return math.max(excess, 0)
"""


class Fetcher(Protocol):
    """What is used of Dramatiq's own consumer: it keeps what it fetched, and never more than it may have in hand."""

    message_cache: Sequence[bytes]

    @property
    def outstanding_message_count(self) -> int: ...
    def __next__(self) -> MessageProxy | None: ...
    def ack(self, message: MessageProxy) -> None: ...
    def nack(self, message: MessageProxy) -> None: ...
    def requeue(self, messages: Iterable[MessageProxy]) -> None: ...
    def close(self) -> None: ...


class WaitingConsumer(Consumer):
    """Dramatiq's own consumer, asked only when there is something to fetch and room for it."""

    def __init__(self, fetcher: Fetcher, client: redis.Redis, queue_name: str, prefetch: int) -> None:
        self._fetcher = fetcher
        self._client = client
        self._queue_name = queue_name
        self._queue = f"{NAMESPACE}:{queue_name}"
        self._prefetch = prefetch
        self._room = threading.Event()

    def __next__(self) -> MessageProxy | None:
        """The next message, or None where nothing came for IDLE_WAIT_S. Raises dramatiq's ConnectionClosed."""
        try:
            message = next(self._fetcher) if self._fetcher.message_cache or self._can_fetch() else None
            if message is None or is_poke(message, self._queue_name):
                return message
            log.warning("poke.malformed", payload=str(message)[:100], error=NOT_OURS)
            self.nack(message)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        except UNREADABLE as error:
            log.warning("poke.malformed", payload="", error=str(error))
        return None

    def ack(self, message: MessageProxy) -> None:
        self._fetcher.ack(message)
        self._room.set()

    def nack(self, message: MessageProxy) -> None:
        self._fetcher.nack(message)
        self._room.set()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        self._fetcher.requeue(messages)

    def close(self) -> None:
        self._fetcher.close()

    def _can_fetch(self) -> bool:
        """Waits for room in hand, and then for something in the queue; False where there is no room."""
        self._room.clear()
        if self._fetcher.outstanding_message_count >= self._prefetch and not self._room.wait(IDLE_WAIT_S):
            return False
        # From the head of the queue to its head: nothing moves, but Redis answers as soon as there is something.
        self._client.blmove(self._queue, self._queue, IDLE_WAIT_S, "LEFT", "LEFT")
        return True


class PokeBroker(RedisBroker):
    """Dramatiq's Redis broker with consumers that wait in Redis, and without queues for delayed messages."""

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
        self._sent = count(1)

    def declare_queue(self, queue_name: str) -> None:
        """Declares the queue alone: pokes are never delayed."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[object], *, delay: int | None = None) -> Message[object]:
        """Puts the message into its queue. Raises ``redis.RedisError``, and ValueError for a delay."""
        if delay is not None:
            raise ValueError("a poke is never delayed: what is due later is a row with its time")
        enqueued: Message[object] = super().enqueue(message)
        if next(self._sent) % LOOK_EVERY == 0:
            self._drop_oldest(message.queue_name)
        return enqueued

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> Consumer:
        """Waits until Redis answers, and then consumes: a lost Redis is said once, not at every try."""
        while not self._closing.is_set() and not self._answers():
            self._closing.wait(self._pause_s)
        fetcher = cast(Fetcher, super().consume(queue_name, prefetch, _LOOK_MS))
        return WaitingConsumer(fetcher, self.client, queue_name, prefetch)

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

    def _drop_oldest(self, queue_name: str) -> None:
        """Where no worker takes them, pokes do not fill the Redis that spend comes through."""
        queue = f"{NAMESPACE}:{queue_name}"
        dropped = cast(int, self.client.eval(_DROP_OLDEST, 2, queue, f"{queue}.msgs", WAITING_MAX))
        if dropped:
            log.warning("pokes.dropped", queue=queue_name, count=dropped)

    def _answers(self) -> bool:
        try:
            self.client.ping()
        except redis.RedisError as error:
            self._pause_s = self._outage.note(error)
            return False
        self._outage.over()
        return True


def open_broker(url: str) -> AnyBroker:
    """The broker at this URL, Redis or RabbitMQ; it connects when first used. Raises ``worker.rabbit``'s
    BrokerUrlInvalid."""
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
