"""Runs of scheduled jobs: a slot is claimed once, whoever asks, so that two leaders at once are harmless.

A slot is the time of a run floored to the job's interval, by the database's clock: schedulers whose clocks differ
agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from psycopg.types.json import Jsonb

from jobs.ledger.database import Connection, fetch_one

LEADERSHIP: Final = "leadership"  # not a job: one row for each election, so that people see who leads since when
LEADER_LOCK: Final = 7_355_613  # any number that only a leader takes
JOB_LOCK_SPACE: Final = 7_355_612  # the first half of the advisory lock on one job
KEPT_FOR: Final = timedelta(days=2)


def claim(
    connection: Connection, job: str, interval_s: int, claimed_by: str, now: datetime | None = None
) -> datetime | None:
    """The slot of this moment, or None where it was claimed before."""
    row = connection.execute(
        "insert into refill.job_slot (job, slot, claimed_by, claimed_at)"
        " select %(job)s, date_bin(%(interval)s, t.now, timestamptz 'epoch'), %(by)s, t.now"
        " from (select coalesce(%(now)s, clock_timestamp()) as now) t"
        " on conflict do nothing returning slot",
        {"job": job, "interval": timedelta(seconds=interval_s), "by": claimed_by, "now": now},
    ).fetchone()
    return None if row is None else row[0]


def finish(connection: Connection, job: str, slot: datetime, result: Mapping[str, int]) -> None:
    """Notes that the run of this slot came to its end, with what it did."""
    connection.execute(
        "update refill.job_slot set finished_at = clock_timestamp(), result = %s where job = %s and slot = %s",
        (Jsonb(dict(result)), job, slot),
    )


def note_election(connection: Connection, leader: str) -> None:
    """Notes that this process leads from now on."""
    connection.execute(
        "insert into refill.job_slot (job, slot, claimed_by) values (%s, clock_timestamp(), %s)", (LEADERSHIP, leader)
    )


def until_middle(connection: Connection, interval_s: int) -> timedelta:
    """How long it is to the middle of a slot: there no small difference of clocks leads into another one."""
    seconds = fetch_one(
        connection,
        "select extract(epoch from date_bin(i.span, t.now, timestamptz 'epoch') + i.span * 1.5 - t.now)"
        " from (select clock_timestamp() as now) t, (select %s::interval as span) i",
        (timedelta(seconds=interval_s),),
    )[0]
    return timedelta(seconds=float(seconds) % interval_s)


@contextmanager
def sole_run(connection: Connection, job: str) -> Iterator[bool]:
    """Whether this session alone runs the job inside the block: a run that takes longer than its interval is not
    joined.

    A session lock, because a run is many transactions; a lost connection gives it back.
    """
    is_sole: bool = fetch_one(connection, "select pg_try_advisory_lock(%s, hashtext(%s))", (JOB_LOCK_SPACE, job))[0]
    try:
        yield is_sole
    finally:
        if is_sole and not connection.closed:
            connection.execute("select pg_advisory_unlock(%s, hashtext(%s))", (JOB_LOCK_SPACE, job))


def remove_old(connection: Connection, now: datetime | None = None) -> int:
    """Removes the notes of runs older than KEPT_FOR, but the last of each job; returns how many."""
    return connection.execute(
        "delete from refill.job_slot s where s.slot < coalesce(%s, clock_timestamp()) - %s"
        " and exists (select from refill.job_slot later where later.job = s.job and later.slot > s.slot)",
        (now, KEPT_FOR),
    ).rowcount
