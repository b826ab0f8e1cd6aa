"""Whether refill is healthy: what the ledger and Redis show, judged. Pure; every fault is one sentence that says
what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from config.schedule import Job
from jobs.status import LedgerStatus
from worker.redis_status import BrokerStatus, RedisStatus, StreamStatus

SLOTS_MISSED_MAX: Final = 3
JOB_GRACE: Final = timedelta(seconds=30)
SPEND_WAIT_S_MAX: Final = 60
EVENTS_WAIT_MAX: Final = timedelta(seconds=60)
MAIL_WAIT_MAX: Final = timedelta(minutes=10)
MONTH_MADE_BEFORE: Final = timedelta(days=7)
LOOK_WAIT_MAX: Final = timedelta(minutes=5)


def problems(ledger: LedgerStatus, redis: RedisStatus, jobs: Sequence[Job]) -> list[str]:
    """The faults, the most pressing first; none where it is healthy."""
    return [
        *_of_charges(ledger),
        *_of_running(ledger, jobs),
        *_of_waiting(ledger),
        *_of_entries(ledger),
        *_of_stream(redis.stream),
        *_of_broker(redis.broker),
    ]


def _of_charges(ledger: LedgerStatus) -> Iterator[str]:
    for charge in ledger.unclear:
        if charge.state == "needs_review":
            yield (
                f"Charge {charge.charge_id} ({charge.payment_intent or 'never sent'}) needs a person: {charge.detail}."
                f" Compare it with the processor; nothing is charged for {charge.accounts} until it is cleared up."
            )


def _of_running(ledger: LedgerStatus, jobs: Sequence[Job]) -> Iterator[str]:
    if ledger.leader is None or not ledger.leader.is_leading:
        yield "No scheduler leads: is `refill scheduler` running? Until one does, nothing is swept."
        return
    intervals = {job.name: timedelta(seconds=job.interval_s) for job in jobs}
    for run in ledger.jobs:
        allowed = intervals[run.job] * SLOTS_MISSED_MAX + JOB_GRACE
        last = run.finished_at or ledger.leader.since
        if ledger.now - last <= allowed:
            continue
        is_triggered = run.claimed_at is not None and ledger.now - run.claimed_at <= allowed
        cause = "no worker ends it: is `refill worker` running?" if is_triggered else "it is not triggered."
        yield f"The job {run.job} has not ended for {_length(ledger.now - last)}; {cause}"


def _of_waiting(ledger: LedgerStatus) -> Iterator[str]:
    overdue = [waiting for waiting in ledger.waiting if ledger.now - waiting.next_at > LOOK_WAIT_MAX]
    for waiting in overdue:
        yield f"Accounts below their trigger ({waiting.verdict}) wait to be looked at since {_at(waiting.next_at)}."
    messages, events = ledger.messages, ledger.events
    if messages.due_since is not None and ledger.now - messages.due_since > MAIL_WAIT_MAX:
        yield f"Messages wait to be delivered since {_at(messages.due_since)}; {messages.pending} are pending."
    if messages.poisoned_24h:
        yield (
            f"{messages.poisoned_24h} messages could not be delivered in the last day and are given up;"
            " refill.message says why in last_error."
        )
    if events.oldest_at is not None and ledger.now - events.oldest_at > EVENTS_WAIT_MAX:
        yield f"{events.unpublished} events wait to be published since {_at(events.oldest_at)}."


def _of_entries(ledger: LedgerStatus) -> Iterator[str]:
    months = ledger.entry_months
    if months.until is None or months.until - ledger.now < MONTH_MADE_BEFORE:
        yield (
            "Entries have no partition for this month."
            if months.until is None
            else f"Entries have no partition from {_at(months.until)} on."
        ) + " Nothing is lost: the default one takes them. `refill run partitions` makes it, or says why not."
    if months.has_strays:
        yield (
            "The default partition holds entries: their month had none when they were posted."
            " `refill run partitions` moves them."
        )


def _of_stream(stream: StreamStatus | None) -> Iterator[str]:
    if stream is None:
        yield "Redis does not answer: spend events cannot come in; the ledger is not touched."
        return
    if not stream.exists or not stream.intakes:
        yield "Nobody reads the stream of spend events: is `refill intake` running?"
    if stream.oldest_s is not None and stream.oldest_s > SPEND_WAIT_S_MAX:
        yield (
            f"Spend events wait for {_length(timedelta(seconds=stream.oldest_s))}:"
            f" {stream.waiting:,} unread, {stream.pending:,} read and not posted."
        )


def _of_broker(broker: BrokerStatus | None) -> Iterator[str]:
    if broker is None:
        yield "The broker does not answer: pokes are lost and no sweep runs until it does; nothing is charged."


def _length(span: timedelta) -> str:
    seconds = round(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
