"""A slot of a job is claimed once, whoever asks and whatever their clock says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from jobs import slots
from jobs.ledger.database import Connection, connect
from tests.support.seed import count

NOW = datetime(2030, 1, 1, 12, 0, 44, tzinfo=UTC)


@pytest.fixture
def ledger(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        yield connection


def test_a_slot_is_the_time_floored_to_the_interval(ledger: Connection) -> None:
    assert slots.claim(ledger, "sweep", 30, "a", NOW) == NOW.replace(second=30)
    assert slots.claim(ledger, "hourly", 3_600, "a", NOW) == NOW.replace(minute=0, second=0)


def test_a_slot_is_claimed_once_and_the_next_one_again(ledger: Connection) -> None:
    slots.claim(ledger, "sweep", 30, "a", NOW)
    assert slots.claim(ledger, "sweep", 30, "b", NOW + timedelta(seconds=15)) is None
    assert slots.claim(ledger, "sweep", 30, "b", NOW + timedelta(seconds=16)) is not None


def test_of_many_leaders_at_once_one_claims(database: str) -> None:
    def claim(leader: int) -> datetime | None:
        with connect(database) as connection:
            return slots.claim(connection, "sweep", 3_600, f"leader-{leader}", NOW)

    with ThreadPoolExecutor(8) as together:
        claimed = [slot for slot in together.map(claim, range(8)) if slot is not None]
    assert len(claimed) == 1


def test_the_middle_of_a_slot_is_half_an_interval_from_its_claim(ledger: Connection) -> None:
    assert timedelta() <= slots.until_middle(ledger, 3_600) < timedelta(hours=1)
    middle = ledger.execute(
        "select extract(epoch from clock_timestamp() + %s)::int %% 3600", (slots.until_middle(ledger, 3_600),)
    ).fetchone()
    assert middle in {(1_799,), (1_800,)}


def test_a_job_is_run_by_one_worker_at_a_time(ledger: Connection, database: str) -> None:
    with connect(database) as other:
        with slots.sole_run(ledger, "sweep") as first, slots.sole_run(other, "sweep") as second:
            assert (first, second) == (True, False)
        with slots.sole_run(other, "sweep") as again:
            assert again


def test_a_run_notes_its_result(ledger: Connection) -> None:
    slot = slots.claim(ledger, "sweep", 30, "a", NOW)
    assert slot is not None
    slots.finish(ledger, "sweep", slot, {"done": 3})
    assert ledger.execute("select result from refill.job_slot where finished_at is not null").fetchall() == [
        ({"done": 3},)
    ]


def test_old_notes_are_removed_but_the_last_of_each_job(ledger: Connection) -> None:
    for days in (1, 3, 4, 5):
        slots.claim(ledger, "sweep", 30, "a", NOW - timedelta(days=days))
    slots.claim(ledger, "rare", 30, "a", NOW - timedelta(days=90))
    assert slots.remove_old(ledger, NOW) == 3
    assert count(ledger, "select count(*) from refill.job_slot") == 2
