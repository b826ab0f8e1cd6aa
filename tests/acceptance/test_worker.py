"""A worker as a real process: it handles each poke, runs each job, and outlives what it depends on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from dramatiq.message import Message

from jobs import slots
from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import connect, fetch_one
from jobs.recharge import evaluate
from tests.charging.world import LIMITS, World
from tests.support.processes import Processes, Running
from tests.support.sandbox import Sandbox
from tests.support.seed import load_examples, open_account
from tests.support.waiting import eventually
from worker.broker import open_broker
from worker.embedded.postgres import Postgres
from worker.embedded.redis import Redis
from worker.embedded.server import running
from worker.pokes import Poke, Sender, read_poke, run_job
from worker.publisher import STREAM

pytestmark = pytest.mark.acceptance


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A fresh sandbox process."""
    sandbox = Sandbox(tmp_path / "sandbox.db")
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()


class Site:
    """A ledger with a processor, a Redis and a mail directory, and workers on all of it."""

    def __init__(self, processes: Processes, database: str, redis_url: str, sandbox: Sandbox, mail: Path) -> None:
        self._processes = processes
        self.database = database
        self.redis_url = redis_url
        self.mail = mail
        self._sandbox = sandbox
        self._sender = Sender(open_broker(redis_url))

    def worker(self, **settings: str) -> Running:
        environment = {
            "DATABASE_URL": self.database,
            "REDIS_URL": self.redis_url,
            "STRIPE_API_KEY": self._sandbox.key,
            "STRIPE_API_BASE": self._sandbox.url,
            "MAIL_DIR": str(self.mail),
            "REFILL_LOG_FORMAT": "json",
            "REFILL_LOG_LEVEL": "debug",
        }
        worker = self._processes.refill("worker", environment=environment | settings)
        worker.wait_for_event("worker.started")
        return worker

    def poke(self, payload: str) -> bool:
        poke = read_poke(payload)
        assert poke is not None
        return self._sender.send(poke)

    def run_job(self, job: str) -> None:
        with connect(self.database) as connection:
            slot = slots.claim(connection, job, 3_600, "test")
        assert slot is not None
        self.send(run_job(job, slot))

    def send(self, poke: Poke) -> None:
        assert self._sender.send(poke)


@pytest.fixture
def site(processes: Processes, database: str, redis_url: str, sandbox: Sandbox, tmp_path: Path) -> Site:
    with connect(database) as connection:
        load_examples(connection)
    return Site(processes, database, redis_url, sandbox, tmp_path / "mail")


@pytest.fixture
def world(site: Site, sandbox: Sandbox) -> Iterator[World]:
    """The same ledger, for the test's own use."""
    with connect(site.database) as connection:
        yield World(connection, StripeGateway(sandbox.key, sandbox.url, 5.0), sandbox, site.database)


def low_account(world: World, name: str = "anna", card: str = "ok") -> int:
    """An account with a card that was just spent to below its trigger."""
    account_id = world.account(name, card, balance=1_000)
    world.spend(name, 600, f"{name}-1")
    return account_id


def test_a_poke_to_evaluate_charges_the_card_grants_and_writes_the_mail(site: Site, world: World) -> None:
    account_id = low_account(world)
    site.worker()
    site.poke(f"evaluate {account_id}")
    assert eventually(lambda: world.balance("anna") == 1_400, timeout=20)
    assert world.confirmations() == 1
    assert world.messages("anna") == ["recharge_succeeded"]
    world.assert_books_are_clean()


def test_the_same_poke_many_times_charges_once(site: Site, world: World) -> None:
    account_id = low_account(world)
    for _ in range(20):
        site.poke(f"evaluate {account_id}")
    worker = site.worker()
    eventually(lambda: len(worker.events("poke.handled")) + len(worker.events("job.failed")) == 20, timeout=20)
    assert [failed["error"] for failed in worker.events("job.failed")] == []
    assert world.confirmations() == 1
    assert world.balance("anna") == 1_400


def test_a_poke_to_advance_drives_a_charge_that_was_left(site: Site, world: World) -> None:
    charge_id = evaluate(world.connection, low_account(world), LIMITS).charge_id
    site.worker()
    site.poke(f"advance {charge_id}")
    assert eventually(lambda: world.state(charge_id) == "succeeded", timeout=20)


def test_a_poke_to_deliver_writes_the_mail(site: Site, world: World) -> None:
    account_id = open_account(world.connection, "bert", email="bert@example.com")
    data = '{"balance": 7, "alert_below": 10}'
    message_id = fetch_one(
        world.connection, "select refill.enqueue_message(%s, 'low', now(), %s::jsonb)", (account_id, data)
    )[0]
    worker = site.worker()
    site.poke(f"deliver {message_id}")
    assert eventually((site.mail / f"{message_id}.eml").exists)
    assert "bert@" not in worker.output


def test_a_poke_to_publish_writes_the_stream(site: Site, world: World) -> None:
    world.connection.execute("select refill.record_event('balance.low', null, now(), '{}')")
    site.worker()
    site.poke("publish")
    with redis.Redis.from_url(site.redis_url) as client:
        assert eventually(lambda: client.xlen(STREAM) == 1)


def test_the_sweeps_alone_bring_everything_to_its_end(site: Site, world: World) -> None:
    low_account(world)
    site.worker()
    site.run_job("recharge_sweep")
    assert eventually(lambda: world.balance("anna") == 1_400, timeout=20)
    site.run_job("message_sweep")
    site.run_job("event_publish")
    assert eventually(lambda: len(list(site.mail.glob("*.eml"))) == 1)
    with redis.Redis.from_url(site.redis_url) as client:
        assert eventually(lambda: client.xlen(STREAM) > 0)
    unfinished = "select count(*) from refill.job_slot where finished_at is null"
    assert eventually(lambda: world.one(unfinished) == 0)


def test_a_job_that_still_runs_is_not_joined(site: Site, world: World) -> None:
    worker = site.worker()
    with slots.sole_run(world.connection, "housekeeping"):
        site.run_job("housekeeping")
        worker.wait_for_event("job.still_running", job="housekeeping")


def test_a_poke_that_fails_is_one_line_and_the_next_one_is_handled(site: Site, world: World) -> None:
    account_id = low_account(world)
    worker = site.worker()
    site.poke("evaluate 999999")
    failed = worker.wait_for_event("job.failed", account_id=999999)
    assert {"job", "code", "error", "duration_ms"} <= failed.keys()
    site.poke(f"evaluate {account_id}")
    assert eventually(lambda: world.balance("anna") == 1_400, timeout=20)
    assert len(worker.events("job.failed")) == 1


def test_one_account_that_fails_in_a_sweep_holds_back_no_other(site: Site, world: World) -> None:
    broken, healthy = low_account(world, "broken", "ok:1"), low_account(world, "healthy", "ok:2")
    # A program that cannot be read makes every evaluation of its accounts fail.
    world.connection.execute(
        "update refill.account set program_id = (select program_id from refill.program where name = 'sms')"
        " where account_id = %s",
        (broken,),
    )
    world.connection.execute("update refill.program set terms = '{}' where name = 'sms'")
    world.connection.execute(
        "update refill.watch set due_at = now() - interval '1 day' where account_id = %s", (broken,)
    )
    worker = site.worker()
    site.run_job("recharge_sweep")
    assert eventually(lambda: world.balance("healthy") == 1_400, timeout=20)
    assert worker.wait_for_event("sweep.row_failed")["account_id"] == broken
    assert worker.wait_for_event("job.finished", job="recharge_sweep")["result"]["failed"] == 1
    assert healthy


def test_a_silent_processor_holds_back_no_mail_and_no_event(site: Site, world: World, sandbox: Sandbox) -> None:
    sandbox.fault("delay", "POST /v1/payment_intents", count=99, seconds=20)
    ids = [low_account(world, f"a{number}", f"ok:{number}") for number in range(4)]
    worker = site.worker(REFILL_WORKER_THREADS="2")
    for account_id in ids:
        site.poke(f"evaluate {account_id}")
    eventually(lambda: len(worker.events("charge.reserved")) == 2, timeout=20)
    site.poke("publish")
    with redis.Redis.from_url(site.redis_url) as client:
        assert eventually(lambda: client.xlen(STREAM) > 0)
    assert not worker.events("charge.settled")


def test_a_stop_lets_what_is_in_hand_come_to_its_end(site: Site, world: World, sandbox: Sandbox) -> None:
    sandbox.fault("delay", "POST /v1/payment_intents", count=1, seconds=2)
    account_id = low_account(world)
    worker = site.worker()
    site.poke(f"evaluate {account_id}")
    worker.wait_for_event("charge.reserved")
    worker.signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    assert world.balance("anna") == 1_400
    assert worker.events("worker.stopped")


def test_a_poke_older_than_ten_minutes_is_dropped(site: Site, world: World) -> None:
    account_id = low_account(world)
    ten_minutes_ago = int((time.time() - 601) * 1000)
    stale = Message[object](
        queue_name="charges",
        actor_name="evaluate",
        args=(account_id,),
        kwargs={},
        options={},
        message_timestamp=ten_minutes_ago,
    )
    open_broker(site.redis_url).enqueue(stale)
    worker = site.worker()
    worker.wait_for_event("library.logged")
    site.poke("publish")
    worker.wait_for_event("poke.handled", job="publish")
    assert world.verdicts("anna") == []


def test_a_worker_outlives_a_redis_that_comes_back_empty(
    processes: Processes, database: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    with connect(database) as connection:
        load_examples(connection)
        world = World(connection, StripeGateway(sandbox.key, sandbox.url, 5.0), sandbox, database)
        server = Redis(tmp_path)
        with running(server):
            site = Site(processes, database, server.url, sandbox, tmp_path / "mail")
            worker = site.worker()
        worker.wait_for_event("dependency.lost", dependency="redis")
        account_id = low_account(world)
        with running(server):
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            worker.wait_for_event("dependency.regained", dependency="redis", timeout=30)
            eventually(lambda: site.poke(f"evaluate {account_id}"))
            assert eventually(lambda: world.balance("anna") == 1_400, timeout=20)
            assert len(worker.events("dependency.lost")) <= 3
            assert worker.stop() == 0
    assert "Traceback" not in worker.output


def test_a_worker_outlives_a_postgres_that_is_restarted(
    processes: Processes, redis_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    server = Postgres(tmp_path, shared_buffers="16MB", configuration={"fsync": "off"})
    with running(server):
        processes.refill("migrate", environment={"DATABASE_URL": server.url}).wait()
        with connect(server.url) as connection:
            load_examples(connection)
        site = Site(processes, server.url, redis_url, sandbox, tmp_path / "mail")
        worker = site.worker()
        site.poke("publish")
        worker.wait_for_event("poke.handled", job="publish")
    site.poke("publish")
    failed = worker.wait_for_event("job.failed", timeout=30)
    assert failed["code"] == "database_unavailable"
    with running(server), connect(server.url) as connection:
        connection.execute("select refill.record_event('balance.low', null, %s, '{}')", (datetime.now(UTC),))
        with redis.Redis.from_url(redis_url) as client:

            def is_published() -> bool:
                site.poke("publish")
                return bool(client.xlen(STREAM))

            assert eventually(is_published, timeout=30)
        assert worker.stop() == 0


def test_without_its_surroundings_a_worker_ends_with_every_reason(processes: Processes, database: str) -> None:
    bare = processes.refill("worker", environment={"DATABASE_URL": database})
    assert bare.wait() == 2
    for name in ("REDIS_URL", "STRIPE_API_KEY", "SMTP_URL"):
        assert f"{name} is needed" in bare.output
    assert "Traceback" not in bare.output
