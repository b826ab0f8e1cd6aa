"""`refill status` and `refill run`, as the person on call types them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from tests.support.processes import REFILL, Processes, clean_environment
from tests.support.waiting import eventually
from worker.broker import open_broker
from worker.redis_status import look
from worker.stream import SpendStream, open_redis, reading_key

pytestmark = pytest.mark.acceptance


class Site:
    """The settings of one installation, and its commands."""

    def __init__(self, processes: Processes, database: str, redis_url: str, mail: Path) -> None:
        self._processes = processes
        self.environment = {
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "STRIPE_API_KEY": "sk_test_nobody",
            "STRIPE_API_BASE": "http://127.0.0.1:1",
            "MAIL_DIR": str(mail),
            "REFILL_LOG_FORMAT": "json",
        }

    def start(self, *names: str) -> None:
        for name in names:
            self._processes.refill(name, environment=self.environment).wait_for_event(f"{name}.started")

    def command(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(REFILL), *arguments],
            env=clean_environment(**(self.environment | changes)),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done

    def status(self, **changes: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Exit status, the answer, and the error."""
        done = self.command("status", "--json", **changes)
        return done.returncode, json.loads(done.stdout or "{}"), json.loads(done.stderr or "{}")


def intakes(client: redis.Redis, broker_url: str) -> int:
    stream = look(client, open_broker(broker_url)).stream
    assert stream is not None
    return stream.intakes


@pytest.fixture
def site(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Site:
    return Site(processes, database, redis_url, tmp_path / "mail")


def test_an_intake_that_waits_at_an_empty_stream_is_seen_to_read(redis_url: str) -> None:
    with open_redis(redis_url) as client:
        stream = SpendStream(client, "one")
        stream.ensure_group()
        stream.say_reading()
        assert intakes(client, redis_url) == 1

        client.delete(reading_key("one"))
        assert intakes(client, redis_url) == 0


def test_a_site_on_which_everything_runs_is_healthy(site: Site) -> None:
    site.start("intake", "worker", "scheduler")

    def answer() -> dict[str, Any]:
        status, answer, _ = site.status()
        assert status == 0, answer
        assert all(job["finished_at"] for job in answer["jobs"])
        return answer

    answered = eventually(answer, timeout=30)
    assert answered["leader"]["is_leading"]
    assert answered["redis"]["stream"]["intakes"] == 1
    assert answered["broker"]["kind"] == "redis"


def test_a_site_on_which_nothing_runs_is_not_and_says_what_is_missing(site: Site) -> None:
    status, answer, error = site.status()
    assert (status, error["error"]) == (1, "unhealthy")
    said = " ".join(answer["problems"])
    assert "refill scheduler" in said
    assert "refill intake" in said


def test_what_does_not_answer_is_said_without_a_traceback(site: Site) -> None:
    status, _, error = site.status(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert (status, error["error"]) == (1, "unhealthy")
    assert "PostgreSQL" in error["message"]
    status, answer, error = site.status(REDIS_URL="redis://127.0.0.1:1/0")
    assert (status, error["error"], answer["redis"]) == (1, "unhealthy", None)
    assert answer["broker"] is None


def test_people_get_tables_and_the_reasons(site: Site) -> None:
    done = site.command("status")
    assert done.returncode == 1
    assert "recharge_sweep" in done.stdout
    assert "No scheduler leads" in done.stderr
    assert "[unhealthy]" in done.stderr


@pytest.mark.parametrize(
    "job",
    ["recharge_sweep", "charge_sweep", "expiry_sweep", "message_sweep", "event_publish", "partitions", "housekeeping"],
)
def test_every_job_can_be_run_by_hand(site: Site, job: str) -> None:
    done = site.command("run", job, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["job"] == job


def test_a_job_can_be_run_for_any_moment_in_a_sandbox(site: Site) -> None:
    assert site.command("run", "expiry_sweep", "--now", "2031-01-01").returncode == 0


def test_a_job_runs_for_no_other_moment_where_the_books_are_real(site: Site) -> None:
    with psycopg.connect(site.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("update refill.installation set is_sandbox = false")
    done = site.command("run", "expiry_sweep", "--now", "2031-01-01")
    assert done.returncode == 1
    assert "[not_a_sandbox]" in done.stderr
    assert site.command("run", "expiry_sweep").returncode == 0


def test_a_job_that_does_not_exist_suggests_one_that_does(site: Site) -> None:
    done = site.command("run", "expire_sweep")
    assert done.returncode == 2
    assert "did you mean expiry_sweep?" in done.stderr
