"""RabbitMQ as the broker of pokes, for whoever gives an `amqp://` URL. The streams stay in Redis.

    refill.pokes.charges, .mail, .ledger             the queues; two of refill on one RabbitMQ need a vhost each
    refill.pokes.charges.dead, .mail.dead, ...       what was too old or unreadable, for an hour

Dramatiq's own RabbitMQ broker is not used. What was found by running it, and what follows from it here:

- it keeps a connection for each thread that ever sent something, and nobody reads on it: RabbitMQ ends it after a
  minute without heartbeats, and what is published next is lost without an error. Here all threads of a process publish
  on one connection, each message is confirmed, and a thread answers heartbeats while nobody publishes;
- it declares queues for delayed messages and consumes them: pokes are never delayed;
- a lost connection is logged by every thread, and acknowledgements are tried again for ever on one that is gone. Here
  a consumer connects again by itself, and says once that RabbitMQ is lost. What it had not acknowledged is delivered
  again, and finds its row done;
- it judges the age of a message by the clocks of two machines. Here RabbitMQ does, by its own;
- its messages go to the disk before they are confirmed. Pokes are transient: a restart of RabbitMQ loses those that
  wait, and the sweeps find the rows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pika
import structlog
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.message import Message
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelClosedByBroker

from jobs.errors import BrokerUnavailable, UsageError
from worker.broker import DEAD_MESSAGE_MS, MAX_AGE_MS, NOT_OURS, UNREADABLE, WAITING_MAX, is_poke
from worker.outage import Outage

log = structlog.get_logger()

NAMESPACE: Final = "refill.pokes"
HEARTBEAT_S: Final = 10  # after about twice this an end that fell silent is given up
_RETRY_LOOK_S: Final = 0.25
_FLUSH_S: Final = 2.0
_QUICK_S: Final = 1.0
_NOT_FOUND: Final = 404

# Every wait of the client has an end. A URL may say otherwise in its query.
_DEFAULTS: Final[Mapping[str, str]] = {
    "heartbeat": str(HEARTBEAT_S),
    "socket_timeout": "5",
    "stack_timeout": "5",
    "blocked_connection_timeout": "10",  # RabbitMQ takes nothing while it is short of memory or disk
    "tcp_options": "{'TCP_USER_TIMEOUT': 10000}",
}
_TRANSIENT: Final = pika.BasicProperties(delivery_mode=1)  # type: ignore[no-untyped-call]
# A part of what goes wrong while connecting has a tree of its own. AssertionError: what pika raises where its
# connection dies in the midst of a call.
_LOSSES: Final = (AMQPError, AMQPConnectorException, OSError, AssertionError)


class BrokerUrlInvalid(UsageError):
    """REFILL_BROKER_URL has an option that is none, or a user without a password."""

    code = "broker_url_invalid"


class RabbitBroker(Broker):
    """A Dramatiq broker on RabbitMQ. Connects when first used."""

    dependency: Final = "rabbitmq"
    losses: Final = (BrokerUnavailable,)

    def __init__(self, url: str) -> None:
        super().__init__(middleware=[])
        logging.getLogger("pika").setLevel(logging.CRITICAL)  # an outage is one line of ours
        self.queues: set[str] = set()
        self._parameters = connection_parameters(url)
        self._publisher = Publisher(self._parameters)

    def declare_queue(self, queue_name: str) -> None:
        """Notes the queue; RabbitMQ learns of it when it is used."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        return self.queues.copy()

    def enqueue(self, message: Message[object], *, delay: int | None = None) -> Message[object]:
        """Returns when RabbitMQ has the message. Raises BrokerUnavailable, and ValueError for a delay."""
        if delay is not None:
            raise ValueError("a poke is never delayed: what is due later is a row with its time")
        self.emit_before("enqueue", message, delay)
        self._publisher.publish(message.queue_name, message.encode())
        self.emit_after("enqueue", message, delay)
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1_000) -> Consumer:
        """A consumer that outlives every outage; ``timeout`` is in milliseconds."""
        return RabbitConsumer(self._parameters, queue_name, prefetch, timeout / 1000)

    def lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """How many pokes wait in each of these queues. Changes nothing. Raises BrokerUnavailable."""
        with _losses_named(), pika.BlockingConnection(self._parameters) as connection:
            return {queue: _length(connection, queue) for queue in queues}

    def check(self) -> None:
        """Raises BrokerUnavailable where RabbitMQ cannot be used."""
        with _losses_named(), pika.BlockingConnection(self._parameters):
            return

    def close(self) -> None:
        """Ends publishing. Consumers are closed by who made them."""
        self._publisher.close()


class Publisher:
    """The connection on which all threads of this process publish, one at a time. Made when it is first needed."""

    def __init__(self, parameters: pika.URLParameters) -> None:
        self._parameters = parameters
        heartbeat = parameters.heartbeat
        self._tend_s = (heartbeat if isinstance(heartbeat, int) and heartbeat else HEARTBEAT_S) / 4
        self._one_at_a_time = threading.Lock()
        self._channel: BlockingChannel | None = None
        self._declared: set[str] = set()
        self._lost_at = 0.0
        self._closed = threading.Event()
        self._tender: threading.Thread | None = None

    def publish(self, queue: str, body: bytes) -> None:
        """Returns when RabbitMQ has confirmed it. Raises BrokerUnavailable; whoever waited behind one that failed
        fails with it, so that nobody waits twice."""
        asked_at = time.monotonic()
        with self._one_at_a_time:
            if self._lost_at > asked_at:
                raise BrokerUnavailable("RabbitMQ was lost a moment ago.")
            had_channel = self._channel is not None
            try:
                with _losses_named():
                    self._send(queue, body)
            except BrokerUnavailable:
                if not had_channel or time.monotonic() - asked_at > _QUICK_S:
                    raise
                # After a restart of RabbitMQ the connection is a dead one, and a new one may work.
                with _losses_named():
                    self._send(queue, body)

    def close(self) -> None:
        """Gives up the connection."""
        self._closed.set()
        with self._one_at_a_time:
            self._drop()

    def _send(self, queue: str, body: bytes) -> None:
        try:
            channel = self._channel = self._channel or self._connect()
            if queue not in self._declared:
                declare(channel, queue)
                self._declared.add(queue)
            # `mandatory` makes a queue that somebody deleted an error, which declares it anew at the second try.
            channel.basic_publish("", wire_name(queue), body, _TRANSIENT, mandatory=True)
        except _LOSSES:
            self._drop()
            self._lost_at = time.monotonic()
            raise

    def _connect(self) -> BlockingChannel:
        channel = pika.BlockingConnection(self._parameters).channel()
        channel.confirm_delivery()
        if self._tender is None:
            self._tender = threading.Thread(target=self._tend, name="rabbitmq", daemon=True)
            self._tender.start()
        return channel

    def _drop(self) -> None:
        if self._channel is not None:
            _close(self._channel.connection)
        self._channel = None
        self._declared.clear()

    def _tend(self) -> None:
        """Answers heartbeats while nobody publishes. A connection that is lost meanwhile is made anew when needed."""
        while not self._closed.wait(self._tend_s):
            with self._one_at_a_time:
                try:
                    if self._channel is not None:
                        self._channel.connection.process_data_events(0)
                except _LOSSES as error:
                    log.debug("broker.connection_dropped", error=reason(error))
                    self._drop()


class Delivery(MessageProxy):
    """A message, and the channel on which it can be settled: no other knows its tag."""

    def __init__(self, message: Message[object], channel: BlockingChannel, tag: int) -> None:
        super().__init__(message)
        self.channel = channel
        self.tag = tag


class RabbitConsumer(Consumer):
    """Consumes one queue. `next` belongs to one thread; `ack` and `nack` may be called from any."""

    def __init__(self, parameters: pika.URLParameters, queue: str, prefetch: int, timeout_s: float) -> None:
        self._parameters = parameters
        self._queue = queue
        self._prefetch = prefetch
        self._timeout_s = timeout_s
        self._channel: BlockingChannel | None = None
        self._deliveries: Iterator[tuple[Any, Any, bytes | None]] = iter(())
        self._outage = Outage(RabbitBroker.dependency)
        self._retry_at = 0.0

    def __next__(self) -> MessageProxy | None:
        """The next message, or None where nothing came for a while or RabbitMQ is lost; never raises for a loss."""
        if time.monotonic() < self._retry_at:
            time.sleep(_RETRY_LOOK_S)
            return None
        try:
            with _losses_named():
                return self._receive(self._channel or self._connect())
        except BrokerUnavailable as error:
            self._drop()
            self._retry_at = time.monotonic() + self._outage.note(error)
            return None

    def ack(self, message: MessageProxy) -> None:
        """Tells RabbitMQ that the message was handled."""
        self._settle(cast(Delivery, message), is_good=True)

    def nack(self, message: MessageProxy) -> None:
        """Sends the message to the dead ones."""
        self._settle(cast(Delivery, message), is_good=False)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Nothing to do: what was not acknowledged is delivered again when the connection ends."""

    def close(self) -> None:
        """Sends what is settled and closes the connection."""
        if self._channel is None or not self._channel.connection.is_open:
            return
        connection, is_flushed = self._channel.connection, threading.Event()
        deadline = time.monotonic() + _FLUSH_S
        try:
            connection.add_callback_threadsafe(is_flushed.set)  # runs after every settlement that was asked for
            while not is_flushed.is_set() and time.monotonic() < deadline:
                connection.process_data_events(_RETRY_LOOK_S)
        except _LOSSES as error:
            log.debug("broker.connection_dropped", error=reason(error))
        self._drop()

    def _connect(self) -> BlockingChannel:
        channel = self._channel = pika.BlockingConnection(self._parameters).channel()
        declare(channel, self._queue)
        channel.basic_qos(prefetch_count=self._prefetch)
        self._deliveries = channel.consume(wire_name(self._queue), inactivity_timeout=self._timeout_s)
        self._outage.over()
        return channel

    def _receive(self, channel: BlockingChannel) -> MessageProxy | None:
        method, _, body = next(self._deliveries, (None, None, b""))
        if body is None:
            return None
        if method is None:
            raise BrokerUnavailable(f"RabbitMQ ended the consumer of {wire_name(self._queue)}.")
        try:
            message = Delivery(Message.decode(body), channel, method.delivery_tag)
        except UNREADABLE as error:
            _refuse(channel, method.delivery_tag, body, str(error))
            return None
        if not is_poke(message, self._queue):
            _refuse(channel, method.delivery_tag, body, NOT_OURS)
            return None
        return message

    def _settle(self, delivery: Delivery, *, is_good: bool) -> None:
        channel, tag = delivery.channel, delivery.tag

        def settle() -> None:
            if not channel.is_open:
                return
            if is_good:
                channel.basic_ack(tag)
            else:
                channel.basic_nack(tag, requeue=False)

        try:
            channel.connection.add_callback_threadsafe(settle)
        except _LOSSES as error:  # its connection is gone: RabbitMQ delivers it again, and the row says that it is done
            log.debug("broker.connection_dropped", error=reason(error))

    def _drop(self) -> None:
        if self._channel is not None:
            _close(self._channel.connection)
        self._channel, self._deliveries = None, iter(())


def connection_parameters(url: str) -> pika.URLParameters:
    """How to connect: what the URL says, with an end to every wait. Raises BrokerUrlInvalid."""
    parts = urlsplit(url)
    query = {**_DEFAULTS, **dict(parse_qsl(parts.query))}
    try:
        parameters = pika.URLParameters(urlunsplit(parts._replace(query=urlencode(query))))
    except (ValueError, TypeError, SyntaxError) as error:  # TypeError: a user without a password
        raise BrokerUrlInvalid(f"REFILL_BROKER_URL cannot be read: {error}") from error
    parameters.client_properties = {"connection_name": "refill"}
    return parameters


def wire_name(queue: str) -> str:
    """What RabbitMQ knows the queue by."""
    return f"{NAMESPACE}.{queue}"


def declare(channel: BlockingChannel, queue: str) -> None:
    """Makes the queue, and the one for its dead messages, where they are missing."""
    name = wire_name(queue)
    bounds = {"x-max-length": WAITING_MAX}
    channel.queue_declare(f"{name}.dead", durable=True, arguments={**bounds, "x-message-ttl": DEAD_MESSAGE_MS})
    to_the_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}.dead"}
    channel.queue_declare(name, durable=True, arguments={**bounds, "x-message-ttl": MAX_AGE_MS, **to_the_dead})


def reason(error: BaseException) -> str:
    """What an error of pika means: the innermost cause that has words."""
    inner = [part for part in error.args if isinstance(part, BaseException)]
    if inner:
        return reason(inner[-1])
    nested = getattr(error, "exception", None)
    if isinstance(nested, BaseException):
        return reason(nested)
    return str(error) or type(error).__name__


@contextmanager
def _losses_named() -> Iterator[None]:
    try:
        yield
    except _LOSSES as error:
        raise BrokerUnavailable(f"RabbitMQ does not answer: {reason(error)}") from error


def _refuse(channel: BlockingChannel, tag: int, body: bytes, error: str) -> None:
    log.warning("poke.malformed", payload=f"{body[:100]!r}", error=error)
    channel.basic_nack(tag, requeue=False)


def _length(connection: pika.BlockingConnection, queue: str) -> int:
    try:
        return int(connection.channel().queue_declare(wire_name(queue), passive=True).method.message_count)
    except ChannelClosedByBroker as error:
        if error.reply_code == _NOT_FOUND:
            return 0
        raise


def _close(connection: pika.BlockingConnection) -> None:
    try:
        if connection.is_open:
            connection.close()
    except _LOSSES as error:
        log.debug("broker.connection_dropped", error=reason(error))
