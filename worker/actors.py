"""The actors: each wakes one function of `jobs` with a connection, and says in one line how it went.

Nothing is retried here and nothing is raised: what failed is a row that the next sweep finds. What a card, a mail
server or a lost database does to one poke never reaches the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import structlog
from dramatiq import Actor

from jobs import charge, notify, recharge, slots
from jobs.ledger.database import Connection
from worker import pokes
from worker.broker import AnyBroker
from worker.failures import failure_of
from worker.outside import Outside
from worker.pokes import Sender
from worker.pool import LedgerPool
from worker.publisher import publish
from worker.runs import JOBS, Result, Run

log = structlog.get_logger()


class Tasks:
    """What the actors do, on a pool of connections."""

    def __init__(self, pool: LedgerPool, outside: Outside, sender: Sender) -> None:
        self._pool = pool
        self._outside = outside
        self._sender = sender

    def evaluate(self, account_id: int) -> None:
        """Decide on an account and, where a charge was reserved, send it on its way at once."""

        def act(connection: Connection) -> None:
            evaluation = recharge.evaluate(connection, account_id, self._outside.limits)
            if evaluation.charge_id is not None:
                self._advance(connection, evaluation.charge_id)

        self._handle("evaluate", act, account_id=account_id)

    def advance(self, charge_id: int) -> None:
        """Take a charge as far as it goes."""
        self._handle("advance", lambda connection: self._advance(connection, charge_id), charge_id=charge_id)

    def deliver(self, message_id: str) -> None:
        """Send a message."""
        post = self._outside.post
        self._handle("deliver", lambda connection: notify.deliver(connection, post, message_id), message_id=message_id)

    def publish(self) -> None:
        """Number and publish what happened."""
        self._handle("publish", lambda connection: publish(connection, self._outside.stream))

    def run_job(self, job: str, slot: str) -> None:
        """Run a scheduled job for its slot, unless it is still running for an earlier one."""
        claimed = datetime.fromisoformat(slot)
        self._handle(job, lambda connection: self._run_job(connection, job, claimed), slot=slot)

    def _advance(self, connection: Connection, charge_id: int) -> None:
        charge.advance(connection, self._outside.gateway, charge_id, self._outside.limits)

    def _run_job(self, connection: Connection, job: str, slot: datetime) -> None:
        started = time.monotonic()
        with slots.sole_run(connection, job) as is_sole:
            if not is_sole:
                log.warning("job.still_running", job=job, slot=slot)
                return
            run = Run(connection, self._outside, lambda charge_id: self._sender.send(pokes.advance(charge_id)))
            result = JOBS[job](run)
            slots.finish(connection, job, slot, result)
        _tell(job, result, _ms_since(started))

    def _handle(self, job: str, act: Callable[[Connection], object], **row: object) -> None:
        """Runs it on a connection. The edge of a poke: every exception ends here, as one line with its code."""
        started = time.monotonic()
        try:
            with self._pool.connection() as connection, structlog.contextvars.bound_contextvars(**row):
                act(connection)
        except Exception as error:
            failure = failure_of(error)
            is_ours = failure.code != "internal_error"
            log.error(
                "job.failed",
                job=job,
                code=failure.code,
                error=failure.message,
                duration_ms=_ms_since(started),
                exc_info=not is_ours,
                **row,
            )
        else:
            log.debug("poke.handled", job=job, duration_ms=_ms_since(started), **row)


def declare(broker: AnyBroker, queue: pokes.Queue, tasks: Tasks) -> None:
    """Declares the actors of one queue on its broker."""
    by_queue: dict[pokes.Queue, list[Callable[..., None]]] = {
        "charges": [tasks.evaluate, tasks.advance, tasks.run_job],
        "mail": [tasks.deliver, tasks.run_job],
        "ledger": [tasks.publish, tasks.run_job],
    }
    for function in by_queue[queue]:
        Actor(function, broker=broker, actor_name=function.__name__, queue_name=queue, priority=0, options={})


def _tell(job: str, result: Result, duration_ms: int) -> None:
    """A run that did something is worth a line; one that found nothing is for whoever looks closely."""
    if any(result.values()):
        log.info("job.finished", job=job, duration_ms=duration_ms, result=result)
    else:
        log.debug("job.idled", job=job, duration_ms=duration_ms)


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
