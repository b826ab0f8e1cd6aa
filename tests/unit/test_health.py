"""What is a fault and what is not, as the person on call is told it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from config.schedule import Job
from jobs.status import EntryMonths, Events, JobRun, Leader, LedgerStatus, Messages, UnclearCharge, Waiting
from worker.health import problems
from worker.redis_status import BrokerStatus, RedisStatus, StreamStatus

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
JOBS = [Job("recharge_sweep", 30, "A sweep.")]
WELL = LedgerStatus(
    now=NOW,
    leader=Leader("host:1", NOW - timedelta(days=1), is_leading=True),
    jobs=[JobRun("recharge_sweep", NOW, NOW, {})],
    quarantined=0,
    quarantined_24h=0,
    waiting=[],
    charges=[],
    unclear=[],
    cards=[],
    messages=Messages(0, None, 0, 0, 0),
    events=Events(0, None),
    entry_months=EntryMonths(NOW + timedelta(days=90), has_strays=False),
)
READ = StreamStatus(exists=True, waiting=0, pending=0, oldest_s=None, intakes=1)
QUEUES = BrokerStatus("redis", {})
REDIS = RedisStatus(READ, QUEUES)
REVIEW = UnclearCharge(7, "needs_review", "camp-1", 1000, "USD", "pi_1", "the amount differs", NOW, None)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def run(claimed_s: float, finished_s: float) -> list[JobRun]:
    return [JobRun("recharge_sweep", ago(claimed_s), ago(finished_s), {})]


def test_all_well_is_no_fault() -> None:
    assert problems(WELL, REDIS, JOBS) == []


@pytest.mark.parametrize(
    ("ledger", "said"),
    [
        (replace(WELL, unclear=[REVIEW]), "Charge 7 (pi_1) needs a person: the amount differs."),
        (replace(WELL, leader=None), "No scheduler leads"),
        (replace(WELL, leader=Leader("host:1", NOW, is_leading=False)), "No scheduler leads"),
        (replace(WELL, jobs=run(5, 121)), "recharge_sweep has not ended for 2 min; no worker ends it"),
        (replace(WELL, jobs=run(121, 121)), "recharge_sweep has not ended for 2 min; it is not triggered"),
        (replace(WELL, jobs=[JobRun("recharge_sweep", None, None, None)]), "has not ended for 24 h"),
        (replace(WELL, waiting=[Waiting("off", 3, ago(301))]), "Accounts below their trigger (off) wait"),
        (replace(WELL, messages=Messages(4, ago(601), 0, 0, 0)), "Messages wait to be delivered since"),
        (replace(WELL, messages=Messages(0, None, 2, 2, 0)), "2 messages could not be delivered"),
        (replace(WELL, events=Events(9, ago(61))), "9 events wait to be published"),
    ],
)
def test_each_fault_of_the_ledger_is_said(ledger: LedgerStatus, said: str) -> None:
    [problem] = problems(ledger, REDIS, JOBS)
    assert said in problem


@pytest.mark.parametrize(
    "ledger",
    [
        replace(WELL, unclear=[replace(REVIEW, state="unknown")]),
        replace(WELL, jobs=run(119, 120)),
        replace(
            WELL, leader=Leader("host:1", ago(10), is_leading=True), jobs=[JobRun("recharge_sweep", None, None, None)]
        ),
        replace(WELL, waiting=[Waiting("card_cooling", 3, NOW + timedelta(hours=1)), Waiting("off", 1, ago(299))]),
        replace(WELL, messages=Messages(4, ago(599), 9, 0, 5)),
        replace(WELL, events=Events(9, ago(59))),
        replace(WELL, quarantined=5, quarantined_24h=5),
    ],
)
def test_what_is_on_its_way_is_no_fault(ledger: LedgerStatus) -> None:
    assert problems(ledger, REDIS, JOBS) == []


@pytest.mark.parametrize(
    ("redis", "said"),
    [
        (RedisStatus(None, QUEUES), "Redis does not answer"),
        (RedisStatus(StreamStatus(False, 0, 0, None, 0), QUEUES), "Nobody reads the stream"),
        (RedisStatus(StreamStatus(True, 0, 0, None, 0), QUEUES), "Nobody reads the stream"),
        (RedisStatus(StreamStatus(True, 5, 6, 61.0, 1), QUEUES), "61 s: 5 unread, 6 read and not posted"),
        (RedisStatus(READ, None), "The broker does not answer"),
    ],
)
def test_each_fault_of_redis_and_the_broker_is_said(redis: RedisStatus, said: str) -> None:
    [problem] = problems(WELL, redis, JOBS)
    assert said in problem


def test_entries_without_a_month_soon_are_told_a_week_before() -> None:
    soon = replace(WELL, entry_months=EntryMonths(NOW + timedelta(days=6), has_strays=False))
    assert "Entries have no partition from" in problems(soon, REDIS, JOBS)[0]
    in_time = replace(WELL, entry_months=EntryMonths(NOW + timedelta(days=8), has_strays=False))
    assert problems(in_time, REDIS, JOBS) == []


def test_entries_in_the_default_partition_and_a_month_without_one_are_told() -> None:
    missing = replace(WELL, entry_months=EntryMonths(None, has_strays=True))
    none_for_now, strays = problems(missing, REDIS, JOBS)
    assert none_for_now.startswith("Entries have no partition for this month.")
    assert strays.startswith("The default partition holds entries")
