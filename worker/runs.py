"""The scheduled jobs by name: what a worker runs for a slot, and `refill run JOB` by hand.

A sweep looks at one row after the other. What goes wrong with one is logged with its id and counted; the others go
on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

import structlog

from jobs import charge, expire, notify, partition, recharge, slots
from jobs.ledger.database import Connection
from worker.failures import failure_of
from worker.outside import Outside
from worker.publisher import publish

log = structlog.get_logger()

PAGE: Final = 1_000
MAIL_PAGE: Final = 100
MAILING_S: Final = 10.0  # less than the job's interval: what is left is for the next run
MAILS_AWAY_MAX: Final = 5  # so many mails in a row that no server took: the others wait for the next sweep

Result: TypeAlias = dict[str, int]
Id = TypeVar("Id", int, str)


@dataclass(frozen=True, slots=True)
class Run:
    """What a job is given. ``drive`` brings a charge that was just reserved on its way: a poke, or at once by
    hand."""

    connection: Connection
    outside: Outside
    drive: Callable[[int], object]
    now: datetime | None = None


def recharge_sweep(run: Run) -> Result:
    """Evaluates every account that is due; each charge that it reserves is driven before the next account, so that
    the first card does not wait for the last decision."""
    charges = 0

    def evaluate(account_id: int) -> None:
        nonlocal charges
        evaluation = recharge.evaluate(run.connection, account_id, run.outside.limits, run.now)
        if evaluation.charge_id is not None:
            charges += 1
            run.drive(evaluation.charge_id)

    swept = _sweep(run, lambda most: recharge.due_accounts(run.connection, most, run.now), evaluate, "account_id")
    return {**swept, "charges": charges}


def charge_sweep(run: Run) -> Result:
    """Takes every open charge that is due as far as it goes."""

    def advance(charge_id: int) -> None:
        charge.advance(run.connection, run.outside.gateway, charge_id, run.outside.limits, run.now)

    return _sweep(run, lambda most: charge.due_charges(run.connection, most, run.now), advance, "charge_id")


def expiry_sweep(run: Run) -> Result:
    """Books the expiry of dead credit."""
    return asdict(expire.sweep(run.connection, now=run.now))


def message_sweep(run: Run) -> Result:
    """Delivers what is due, page by page for some seconds, until it shows that the mail server takes none at all."""
    counts: Result = dict.fromkeys(("sent", "deferred", "poisoned", "skipped"), 0)
    in_a_row, until = 0, time.monotonic() + MAILING_S
    while page := notify.due_messages(run.connection, MAIL_PAGE, run.now):
        for message_id in page:
            outcome = notify.deliver(run.connection, run.outside.post, message_id, run.now)
            counts[outcome] += 1
            in_a_row = in_a_row + 1 if outcome == "deferred" else 0
            if in_a_row == MAILS_AWAY_MAX:
                return counts
        if time.monotonic() > until:
            return counts
    return counts


def event_publish(run: Run) -> Result:
    """Numbers new events and writes them to the stream."""
    return {"published": publish(run.connection, run.outside.stream)}


def partitions(run: Run) -> Result:
    """Makes the partitions of entries that are missing."""
    return {"partitions_made": len(partition.ensure(run.connection, run.now))}


def housekeeping(run: Run) -> Result:
    """Removes the notes of old runs."""
    return {"slots_removed": slots.remove_old(run.connection, run.now)}


JOBS: Final[Mapping[str, Callable[[Run], Result]]] = MappingProxyType(
    {
        "recharge_sweep": recharge_sweep,
        "charge_sweep": charge_sweep,
        "expiry_sweep": expiry_sweep,
        "message_sweep": message_sweep,
        "event_publish": event_publish,
        "partitions": partitions,
        "housekeeping": housekeeping,
    }
)
"""Every job of `config.schedule` by its name."""


def _sweep(run: Run, due: Callable[[int], Sequence[Id]], act: Callable[[Id], None], name: str) -> Result:
    """Acts on every row that is due, page by page; a row that failed is asked for again and passed over."""
    seen: set[Id] = set()
    failed = 0
    while fresh := [row_id for row_id in due(PAGE + failed) if row_id not in seen]:
        failed += sum(not _attempt(run, act, row_id, name) for row_id in fresh)
        seen.update(fresh)
    return {"done": len(seen) - failed, "failed": failed}


def _attempt(run: Run, act: Callable[[Id], None], row_id: Id, name: str) -> bool:
    try:
        act(row_id)
    except Exception as error:
        if run.connection.closed:  # the others would fail alike: the sweep ends here and says so once
            raise
        failure = failure_of(error)
        log.exception("sweep.row_failed", code=failure.code, error=failure.message, **{name: row_id})
        return False
    return True
