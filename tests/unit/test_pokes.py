"""What Postgres says on its channel is a poke only in exactly the forms that our SQL writes."""

from __future__ import annotations

import pytest

from config.schedule import schedule
from config.settings import Settings
from worker.pokes import Poke, read_poke
from worker.runs import JOBS

MESSAGE_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("payload", "poke"),
    [
        ("publish", Poke("publish", "ledger")),
        ("evaluate 12", Poke("evaluate", "charges", (12,))),
        ("advance 9223372036854775807", Poke("advance", "charges", (9223372036854775807,))),
        (f"deliver {MESSAGE_ID}", Poke("deliver", "mail", (MESSAGE_ID,))),
    ],
)
def test_a_poke_is_read(payload: str, poke: Poke) -> None:
    assert read_poke(payload) == poke


@pytest.mark.parametrize(
    "payload",
    ["", "evaluate", "evaluate 0", "evaluate -1", "evaluate 1 2", "evaluate \u0661", "deliver 12", "run_job x",
     "publish ", "advance 1" + "0" * 19, f"deliver {MESSAGE_ID.upper()}"],
)  # fmt: skip
def test_anything_else_is_none(payload: str) -> None:
    assert read_poke(payload) is None


def test_every_scheduled_job_can_be_run_and_every_job_is_scheduled() -> None:
    assert set(schedule(Settings())) == set(JOBS)


def test_the_sweeps_follow_the_setting() -> None:
    assert schedule(Settings(sweep_interval_s=7))["recharge_sweep"].interval_s == 7
