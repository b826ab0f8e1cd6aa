"""Pokes: what there is to say, how Postgres says it, and that nobody waits where it cannot be passed on."""

from __future__ import annotations

import re
import threading
import time
from datetime import datetime
from typing import Final, Literal, NamedTuple

import structlog
from dramatiq.message import Message

from worker.broker import AnyBroker
from worker.outage import Outage

log = structlog.get_logger()

Queue = Literal["charges", "mail", "ledger"]

QUEUES: Final[tuple[Queue, ...]] = ("charges", "mail", "ledger")
_QUEUE_OF_JOB: Final[dict[str, Queue]] = {"charge_sweep": "charges", "message_sweep": "mail"}
_BY_ID: Final = re.compile(r"(evaluate|advance) ([1-9][0-9]{0,18})", re.ASCII)
_BY_UUID: Final = re.compile(r"deliver ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)


class Poke(NamedTuple):
    """An actor to wake, through which queue, and what it is told: ids only."""

    actor: str
    queue: Queue
    arguments: tuple[str | int, ...] = ()


def advance(charge_id: int) -> Poke:
    """Look at an open charge."""
    return Poke("advance", "charges", (charge_id,))


def run_job(job: str, slot: datetime) -> Poke:
    """Run a scheduled job for the slot that was claimed for it."""
    return Poke("run_job", _QUEUE_OF_JOB.get(job, "ledger"), (job, slot.isoformat()))


def read_poke(payload: str) -> Poke | None:
    """The poke that a payload of `refill_poke` stands for, or None where it stands for none."""
    if payload == "publish":
        return Poke("publish", "ledger")
    if match := _BY_UUID.fullmatch(payload):
        return Poke("deliver", "mail", (match[1],))
    if match := _BY_ID.fullmatch(payload):
        return Poke(match[1], "charges", (int(match[2]),))
    return None


class Sender:
    """Puts pokes into their queues. Where the broker is lost they are dropped, said once: the sweeps find the
    rows."""

    def __init__(self, broker: AnyBroker) -> None:
        self._broker = broker
        self._outage = Outage(broker.dependency)
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self._dropped = 0

    def send(self, poke: Poke) -> bool:
        """Whether it was sent. After a failure nothing is tried for a moment, so that nobody waits for a lost
        broker."""
        with self._lock:
            if time.monotonic() < self._silent_until:
                self._dropped += 1
                return False
        message = Message[object](
            queue_name=poke.queue, actor_name=poke.actor, args=poke.arguments, kwargs={}, options={}
        )
        try:
            self._broker.enqueue(message)
        except self._broker.losses as error:
            self._note_lost(error)
            return False
        self._note_sent()
        return True

    def _note_lost(self, error: Exception) -> None:
        with self._lock:
            self._dropped += 1
            self._silent_until = time.monotonic() + self._outage.note(error)

    def _note_sent(self) -> None:
        with self._lock:
            self._outage.over()
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning("pokes.dropped", count=dropped)
