"""The first run as a newcomer sees it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest
from dotenv import dotenv_values

from tests.support.processes import Processes, Running
from tests.support.waiting import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


def demo_pids(up: Running) -> list[int]:
    started = [event["pid"] for event in up.events("process.started") if event["name"] == "demo"]
    return started + [event["pid"] for event in up.events("process.restarted") if event["name"] == "demo"]


def test_the_story_is_told_within_a_minute_and_a_restart_makes_nothing_twice(
    processes: Processes, tmp_path: Path
) -> None:
    up = processes.refill("up", "--demo", "--data", tmp_path / "data", environment={"REFILL_LOG_FORMAT": "json"})
    up.wait_for_event("up.ready", timeout=60)
    told = up.wait_for_event("demo.told", timeout=60)
    assert told["invoice_number"].startswith("POINTS-")
    assert "demo-spring has" in Path(told["mail"]).read_text()

    url = dotenv_values(tmp_path / "data" / "refill.env")["DATABASE_URL"]
    assert url is not None
    os.kill(demo_pids(up)[-1], signal.SIGKILL)
    eventually(lambda: len(up.events("demo.started")) == 2, timeout=30)
    with psycopg.connect(url) as connection:
        granted = connection.execute("select count(*) from refill.entry where kind = 'promotion'").fetchone()
        cards = connection.execute("select count(*) from refill.card").fetchone()
    assert (granted, cards) == ((4,), (2,))
    assert up.stop(timeout=60) == 0
