"""RabbitMQ as the broker, a real one: what is sent is handled, and every end of it that can be lost comes back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import psutil
import pytest
from dramatiq.message import Message
from pika.exceptions import ChannelClosedByBroker

from jobs.errors import BrokerUnavailable
from jobs.ledger.database import Connection, connect
from tests.support.forwarder import Forwarder
from tests.support.processes import REFILL, Processes, Running, clean_environment
from tests.support.rabbit import PASSWORD, USER, RabbitMQ, empty, missing, rabbitmq
from tests.support.waiting import eventually
from worker.broker import MAX_AGE_MS
from worker.embedded.server import Server, running
from worker.rabbit import BrokerUrlInvalid, RabbitBroker, connection_parameters, wire_name

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("rabbitmq"),  # a node is dear to start
]


@pytest.fixture(scope="module")
def node(servers_directory: Path) -> Iterator[RabbitMQ]:
    with rabbitmq(servers_directory) as node, running(node):
        yield node


@pytest.fixture
def url(node: RabbitMQ) -> str:
    empty(node.url)
    return node.url


@pytest.fixture
def broker(url: str) -> Iterator[RabbitBroker]:
    with closing(RabbitBroker(url)) as broker:
        yield broker


class Site:
    """Processes of refill on one database, one Redis and one RabbitMQ."""

    def __init__(self, processes: Processes, database: str, redis_url: str, directory: Path) -> None:
        self._processes = processes
        self._environment = {
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "STRIPE_API_KEY": "sk_test_nobody",
            "STRIPE_API_BASE": "http://127.0.0.1:1",
            "MAIL_DIR": str(directory / "mail"),
            "REFILL_LOG_FORMAT": "json",
            "REFILL_LOG_LEVEL": "debug",
            "REFILL_LEADER_RETRY_S": "1",
            "REFILL_SWEEP_INTERVAL_S": "1",
        }

    def start(self, name: str, url: str) -> Running:
        process = self._processes.refill(name, environment=self._environment | {"REFILL_BROKER_URL": url})
        process.wait_for_event(f"{name}.started")
        return process

    def status(self, url: str) -> dict[str, Any]:
        done = subprocess.run(
            [str(REFILL), "status", "--json"],
            env=clean_environment(**self._environment, REFILL_BROKER_URL=url),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture
def site(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Site:
    return Site(processes, database, redis_url, tmp_path)


@pytest.fixture
def ledger(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        yield connection


def message(actor: str = "publish", age_ms: int = 0, **options: object) -> Message[object]:
    sent_at = int(time.time() * 1000) - age_ms
    return Message(
        queue_name="ledger", actor_name=actor, args=(), kwargs={}, options=options, message_timestamp=sent_at
    )


def handled(worker: Running, job: str = "publish") -> int:
    return sum(event["job"] == job for event in worker.events("poke.handled"))


def waiting(url: str, name: str) -> int:
    """How many messages lie in a queue, by the name that RabbitMQ knows."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        return int(connection.channel().queue_declare(name, passive=True).method.message_count)


def test_the_scheduler_sends_and_the_worker_runs_every_job(site: Site, url: str) -> None:
    scheduler, worker = site.start("scheduler", url), site.start("worker", url)

    def idled() -> set[str]:
        return {event["job"] for event in worker.events("job.idled")}

    assert eventually(lambda: len(idled()) >= 5, timeout=30)
    assert (scheduler.stop(), worker.stop()) == (0, 0)
    assert "Traceback" not in scheduler.output + worker.output


def test_what_postgres_says_is_handled_within_milliseconds(site: Site, url: str, ledger: Connection) -> None:
    site.start("scheduler", url).wait_for_event("scheduler.elected")
    worker = site.start("worker", url)
    listening = "select count(*) from pg_stat_activity where application_name = 'refill listener' and query ~ 'listen'"
    eventually(lambda: ledger.execute(listening).fetchone() == (1,))
    ledger.execute("select pg_notify('refill_poke', 'evaluate 4711')")
    assert eventually(lambda: [event for event in worker.events() if event.get("account_id") == 4711], timeout=10)


def test_status_asks_rabbitmq_and_says_how_long_its_queues_are(site: Site, broker: RabbitBroker, url: str) -> None:
    assert site.status(url)["broker"] == {"kind": "rabbitmq", "queues": {"charges": 0, "mail": 0, "ledger": 0}}
    for _ in range(3):
        broker.enqueue(message())
    assert site.status(url)["broker"]["queues"]["ledger"] == 3


def test_status_says_where_rabbitmq_does_not_answer(site: Site) -> None:
    answer = site.status("amqp://127.0.0.1:1/")
    assert answer["broker"] is None
    assert any("The broker does not answer" in problem for problem in answer["problems"])


def test_without_rabbitmq_the_start_ends_with_a_code(processes: Processes, database: str, redis_url: str) -> None:
    environment = {"DATABASE_URL": database, "REDIS_URL": redis_url, "REFILL_BROKER_URL": "amqp://u:pw@127.0.0.1:1/"}
    scheduler = processes.refill("scheduler", environment=environment)
    assert scheduler.wait() == 1
    assert "broker_unavailable" in scheduler.output
    assert "pw" not in scheduler.output
    assert "Traceback" not in scheduler.output


def test_refill_up_asks_it_before_anything_starts(
    processes: Processes, database: str, redis_url: str, tmp_path: Path
) -> None:
    given = {"DATABASE_URL": database, "REDIS_URL": redis_url, "STRIPE_API_BASE": "http://127.0.0.1:1"}
    environment = {**given, "MAIL_DIR": str(tmp_path / "mail"), "REFILL_BROKER_URL": "amqp://127.0.0.1:1/"}
    up = processes.refill("up", "--data", tmp_path / "data", environment=environment)
    assert up.wait() == 1
    assert "broker_unavailable" in up.output
    assert [event["name"] for event in up.events("process.started")] == ["release"]


def test_pokes_of_a_killed_worker_are_handed_to_another_at_once(
    site: Site, broker: RabbitBroker, url: str, ledger: Connection
) -> None:
    first = site.start("worker", url)
    with ledger.transaction():
        ledger.execute("lock table refill.event_log in access exclusive mode")
        broker.enqueue(message())
        eventually(lambda: waiting(url, wire_name("ledger")) == 0)
        first.kill()
    second = site.start("worker", url)
    assert eventually(lambda: handled(second), timeout=10)


def test_a_restart_is_said_once_by_each_and_survived(site: Site, tmp_path: Path) -> None:
    with rabbitmq(tmp_path) as node:
        assert_a_restart_is_survived(site, node)


def assert_a_restart_is_survived(site: Site, node: RabbitMQ) -> None:
    url = node.url
    with running(node):
        scheduler, worker = site.start("scheduler", url), site.start("worker", url)
        eventually(lambda: worker.events("job.idled"))
    for process in (scheduler, worker):
        lost = process.wait_for_event("dependency.lost", dependency="rabbitmq")
        assert lost["code"] == "broker_unavailable"
    assert_everything_works_again(node, scheduler, worker)
    assert len(worker.events("dependency.lost")) <= 4  # three queues and the worker's own pokes
    assert len(scheduler.events("dependency.lost")) == 1
    assert not worker.events("library.logged")


def assert_everything_works_again(node: Server, scheduler: Running, worker: Running) -> None:
    with running(node):
        for process in (scheduler, worker):
            process.wait_for_event("dependency.regained", dependency="rabbitmq")
        before = len(worker.events("job.idled"))
        assert eventually(lambda: len(worker.events("job.idled")) > before + 5, timeout=20)
        assert (scheduler.stop(), worker.stop()) == (0, 0)
        assert "Traceback" not in scheduler.output + worker.output


def test_a_sender_whose_connection_died_unseen_loses_nothing(node: RabbitMQ, url: str) -> None:
    with Forwarder("127.0.0.1", node.port) as line, closing(RabbitBroker(through(line))) as broker:
        broker.enqueue(message())
        line.cut()
        line.mend()
        broker.enqueue(message())
        assert waiting(url, wire_name("ledger")) == 2
        line.cut()
        with pytest.raises(BrokerUnavailable, match="does not answer"):
            broker.enqueue(message())
        line.mend()
        broker.enqueue(message())
        assert waiting(url, wire_name("ledger")) == 3


def test_nobody_waits_long_for_a_rabbitmq_that_fell_silent(node: RabbitMQ, url: str) -> None:
    with Forwarder("127.0.0.1", node.port) as line, closing(RabbitBroker(f"{through(line)}?heartbeat=1")) as broker:
        broker.enqueue(message())
        line.silence()
        began = time.monotonic()
        with ThreadPoolExecutor(4) as threads:
            errors = [one.exception() for one in [threads.submit(broker.enqueue, message()) for _ in range(4)]]
        assert {type(error) for error in errors} == {BrokerUnavailable}
        assert time.monotonic() - began < 20


def through(line: Forwarder) -> str:
    return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{line.port}/"


def test_a_queue_that_somebody_removed_is_made_again(broker: RabbitBroker, url: str) -> None:
    broker.enqueue(message())
    empty(url)
    broker.enqueue(message())
    assert waiting(url, wire_name("ledger")) == 1


def test_a_worker_whose_queue_was_removed_consumes_the_new_one(site: Site, broker: RabbitBroker, url: str) -> None:
    worker = site.start("worker", url)
    broker.enqueue(message())
    eventually(lambda: handled(worker) == 1)
    empty(url)
    broker.enqueue(message())
    assert eventually(lambda: handled(worker) == 2, timeout=20)


def test_what_nobody_takes_for_ten_minutes_goes_to_the_dead(broker: RabbitBroker, url: str) -> None:
    broker.enqueue(message())
    rules = {
        "x-message-ttl": 600_000,
        "x-max-length": 100_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "refill.pokes.ledger.dead",
    }
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare("refill.pokes.ledger", durable=True, arguments=rules)  # refused where any is another
        with pytest.raises(ChannelClosedByBroker, match="PRECONDITION_FAILED"):
            channel.queue_declare("refill.pokes.ledger", durable=True, arguments=rules | {"x-message-ttl": 1})


def test_the_age_of_a_poke_is_judged_by_no_clock_of_ours(site: Site, broker: RabbitBroker, url: str) -> None:
    worker = site.start("worker", url)
    broker.enqueue(message(age_ms=10 * MAX_AGE_MS))
    assert eventually(lambda: handled(worker) == 1)


def test_what_is_unknown_or_unreadable_goes_to_the_dead(site: Site, broker: RabbitBroker, url: str) -> None:
    broker.enqueue(message("actor_of_the_future"))
    broker.enqueue(message(eta=2**62))
    of_no_queue = message().copy(queue_name="nowhere").encode()
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        for rubbish in (b"", b"\xff", b"[1]", b"{}", of_no_queue):
            connection.channel().basic_publish("", wire_name("ledger"), rubbish)
    broker.enqueue(message())
    worker = site.start("worker", url)
    assert eventually(lambda: handled(worker) == 1)
    assert eventually(lambda: waiting(url, f"{wire_name('ledger')}.dead") == 7)
    assert len(worker.events("poke.malformed")) == 6


def test_an_idle_connection_is_kept_alive(node: RabbitMQ) -> None:
    """RabbitMQ ends one that sends no heartbeat within three seconds here."""
    others = connections_to(node)
    with closing(RabbitBroker(f"{node.url}?heartbeat=1")) as broker:
        broker.enqueue(message())
        (opened,) = connections_to(node) - others
        began = time.monotonic()
        eventually(lambda: time.monotonic() - began > 5)
        broker.enqueue(message())
        assert connections_to(node) - others == {opened}
    assert connections_to(node) == others


def connections_to(node: RabbitMQ) -> set[int]:
    """The ports from which this process is connected to the node."""
    found = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in found if one.status == "ESTABLISHED" and one.raddr.port == node.port}


def test_a_delay_is_refused(broker: RabbitBroker) -> None:
    with pytest.raises(ValueError, match="never delayed"):
        broker.enqueue(message(), delay=1_000)


def test_every_wait_has_an_end_and_the_url_may_say_another() -> None:
    parameters = connection_parameters("amqps://h/shop?heartbeat=30")
    assert (parameters.heartbeat, parameters.blocked_connection_timeout) == (30, 10)
    assert (parameters.virtual_host, parameters.port) == ("shop", 5671)


@pytest.mark.parametrize("url", ["amqp://h/?hartbeat=1", "amqp://h/?heartbeat=soon", "amqp://user@h/"])
def test_a_url_that_cannot_be_read_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(BrokerUrlInvalid, match="REFILL_BROKER_URL cannot be read"):
        connection_parameters(url)


def test_a_wrong_password_and_a_missing_vhost_are_told_apart(node: RabbitMQ) -> None:
    with pytest.raises(BrokerUnavailable, match="ACCESS_REFUSED") as refused:
        RabbitBroker(node.url.replace(PASSWORD, "wrong-one")).check()
    assert "wrong-one" not in str(refused.value)
    with pytest.raises(BrokerUnavailable, match="vhost nowhere not found"):
        RabbitBroker(f"{node.url}nowhere").check()
