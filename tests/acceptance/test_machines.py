"""Two machines, each with an intake, a scheduler and a worker, on one Redis and one Postgres; with either broker.

Whatever dies, or is cut off, in the midst of spending and charging: the other machine goes on, and the totals are
exact. Each account is spent below its trigger once, so that forty accounts are forty charges, whoever makes them.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import redis

from jobs.audit import audit
from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import connect, database_now, migrate
from tests.acceptance.spending import event
from tests.charging.world import World
from tests.support.databases import temporary_database
from tests.support.machines import Machine, Place, place, processor_everywhere
from tests.support.processes import Processes
from tests.support.rabbit import RabbitMQ, empty, missing, rabbitmq
from tests.support.sandbox import Sandbox
from tests.support.seed import load_examples
from tests.support.waiting import eventually
from worker.embedded.postgres import Postgres
from worker.embedded.redis import Redis
from worker.embedded.server import running
from worker.stream import GROUP, STREAM

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]

ACCOUNTS = [f"tenant-{number:02}" for number in range(40)]
CREDIT, TRIGGER, RECHARGE = 10_000, 5_000, 10_000
SPENDS, AMOUNT = 150, 50  # of each account: below the trigger once, and never to nothing
TAKEOVER = timedelta(seconds=10)


@dataclass(frozen=True)
class Services:
    """What the machines share."""

    place: Place
    postgres: Postgres
    redis: Redis
    rabbit: RabbitMQ | None


@pytest.fixture(scope="module")
def services(servers_directory: Path) -> Iterator[Services]:
    directory = servers_directory / "machines"
    directory.mkdir()
    with ExitStack() as stack:
        where = stack.enter_context(place())
        postgres = Postgres(directory, shared_buffers="64MB", configuration={"fsync": "off"}, network=where.network)
        redis_server = Redis(directory, network=where.network)
        rabbit = None
        if missing() is None:
            also_on = [str(where.network.ip)] if where.network else []
            rabbit = stack.enter_context(rabbitmq(directory, also_on))
            stack.enter_context(running(rabbit))
        stack.enter_context(running(postgres))
        stack.enter_context(running(redis_server))
        migrate(postgres.url, sandbox=True)
        yield Services(where, postgres, redis_server, rabbit)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest, services: Services) -> str:
    if request.param == "redis":
        return services.redis.url
    if services.rabbit is None:
        pytest.skip(str(missing()))
    empty(services.rabbit.url)
    return services.rabbit.url


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "sandbox.db")
    sandbox.start()
    yield sandbox
    sandbox.stop()


class Site:
    """The two machines, and what their upstream and their person on call see."""

    def __init__(
        self, services: Services, database: str, broker_url: str, sandbox: Sandbox, processes: Processes, home: Path
    ) -> None:
        where = services.place
        self.place = where
        self.database = database
        self.sandbox = sandbox
        self.stream: redis.Redis = redis.Redis.from_url(services.redis.url, protocol=2)
        self.stream.flushall()
        environment = {
            "DATABASE_URL": where.seen(database),
            "REDIS_URL": where.seen(services.redis.url),
            "REFILL_BROKER_URL": where.seen(broker_url),
            "STRIPE_API_KEY": sandbox.key,
            "STRIPE_API_BASE": sandbox.url,
            "MAIL_DIR": str(home / "mail"),
            "REFILL_LOG_FORMAT": "json",
            "REFILL_LOG_LEVEL": "debug",
            "REFILL_INTAKE_CLAIM_IDLE_S": "2",
            "REFILL_SWEEP_INTERVAL_S": "1",
        }
        self.a, self.b = (Machine(name, where, processes, home, environment) for name in ("a", "b"))

    def open_accounts(self) -> None:
        """Each with credit, a policy and a card of its own."""
        with connect(self.database) as connection:
            load_examples(connection)
            gateway = StripeGateway(self.sandbox.key, self.sandbox.url, 10.0)
            world = World(connection, gateway, self.sandbox, self.database)
            for number, name in enumerate(ACCOUNTS):
                world.account(name, f"ok:{number}", balance=CREDIT, recharge_below=TRIGGER, amount=RECHARGE)
            connection.execute("update refill.account set recharge_below = %s", (TRIGGER,))

    def start(self) -> None:
        """Both machines; the first one leads."""
        self.a.launch("scheduler")
        self.a.running["scheduler"].wait_for_event("scheduler.elected")
        self.a.launch("intake", "worker")
        self.b.launch("scheduler", "intake", "worker")
        for machine in (self.a, self.b):
            machine.is_at_work()

    def spend(self, first: int, last: int) -> None:
        """The events ``first`` to ``last`` of every account, in turn."""
        with self.stream.pipeline(transaction=False) as pipeline:
            for number in range(first, last):
                for name in ACCOUNTS:
                    pipeline.xadd(STREAM, dict(event(f"{name}-{number}", name, AMOUNT)))
            pipeline.execute()

    def rows(self, query: LiteralString, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database, autocommit=True) as connection:
            return connection.execute(query, params).fetchall()

    def one(self, query: LiteralString, *params: object) -> Any:
        return self.rows(query, *params)[0][0]

    def now(self) -> datetime:
        with connect(self.database) as connection:
            return database_now(connection)

    def outcomes(self) -> int:
        return int(self.one("select count(*) from refill.spend_outcome"))

    def charged(self) -> Counter[str]:
        """How many recharges each account was granted."""
        rows = self.rows("select account from refill.charge_history where state = 'succeeded'")
        return Counter(name for (name,) in rows)

    def pending(self, machine: Machine) -> int:
        """How many events the machine's intake has read and not acknowledged."""
        consumers: Any = self.stream.xinfo_consumers(STREAM, GROUP)
        return sum(one["pending"] for one in consumers if machine.is_from_here(one["name"].decode(), "intake"))

    def advance_open_charges(self) -> None:
        """What the sweep does some twenty seconds after a worker died, at once."""
        self.rows(
            "select pg_notify('refill_poke', 'advance ' || charge_id) from refill.charge"
            " where state in ('reserved', 'created', 'confirming', 'processing', 'unknown')"
        )

    def leads_since(self, machine: Machine) -> datetime | None:
        """When this machine's scheduler was elected last, by the database's clock."""
        rows = self.rows("select claimed_by, claimed_at from refill.job_slot where job = 'leadership' order by slot")
        mine = [at for by, at in rows if machine.is_from_here(by, "scheduler")]
        return mine[-1] if mine else None

    def takes_over(self, machine: Machine, since: datetime) -> timedelta:
        """How long after ``since`` the machine began to lead, waiting for it."""

        def took() -> timedelta | None:
            at = self.leads_since(machine)
            return None if at is None or at < since else at - since

        found = eventually(took, timeout=30)
        assert found is not None
        print(f"machine {machine.name} leads after {found.total_seconds():.1f} s")  # noqa: T201
        return found

    def leads_alone(self, machine: Machine) -> None:
        """The timetable goes on: every slot from the machine's election on is claimed by it, and new ones are."""
        since = self.leads_since(machine)
        claims: LiteralString = "select claimed_by from refill.job_slot where job <> 'leadership' and claimed_at > %s"
        eventually(lambda: len(self.rows(claims, since)) > 5)
        assert all(machine.is_from_here(by, "scheduler") for (by,) in self.rows(claims, since))

    def ends_exactly(self) -> None:
        """Every event has its one outcome, every account was charged once, and the processor says the same."""
        eventually(lambda: self.outcomes() == len(ACCOUNTS) * SPENDS, timeout=60)
        eventually(self._is_drained, timeout=30)
        eventually(self._is_charged, timeout=60)
        assert self.rows("select distinct outcome::text from refill.spend_outcome") == [("accepted",)]
        left = CREDIT + RECHARGE - SPENDS * AMOUNT
        assert self.rows("select distinct balance from refill.balance") == [(left,)]
        assert self.succeeded_at_the_processor() == len(ACCOUNTS)
        with connect(self.database) as connection:
            assert audit(connection) == []

    def succeeded_at_the_processor(self) -> int:
        """How many payments the processor itself holds for succeeded."""
        intents = self.sandbox.client().v1.payment_intents.list({"limit": 100}).auto_paging_iter()
        return len([intent for intent in intents if intent.status == "succeeded"])

    def _is_charged(self) -> bool:
        self.advance_open_charges()
        expected = Counter(ACCOUNTS)
        return eventually(lambda: self.charged() == expected, timeout=5)

    def _is_drained(self) -> bool:
        pending: Any = self.stream.xpending(STREAM, GROUP)
        return bool(pending["pending"] == 0)


@pytest.fixture
def site(
    services: Services,
    broker_url: str,
    sandbox: Sandbox,
    processes: Processes,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Site]:
    record_property("machines", services.place.kind)
    with capsys.disabled():
        print(f"\nmachines: {services.place.kind}", end=" ")  # noqa: T201  which of the two it was is part of the result
    with (
        temporary_database(services.postgres.url, "refill") as database,
        processor_everywhere(services.place, sandbox.port),
    ):
        site = Site(services, database, broker_url, sandbox, processes, tmp_path)
        site.open_accounts()
        site.start()
        yield site
        processes.close()


def test_a_machine_that_dies_process_by_process_is_taken_over_and_the_totals_are_exact(site: Site) -> None:
    a, b = site.a, site.b
    site.sandbox.fault("delay", "confirm$", count=1_000, seconds=0.3)
    site.spend(0, 50)
    dies_at = site.now()
    a.kill("scheduler")
    assert site.takes_over(b, dies_at) < TAKEOVER
    site.leads_alone(b)

    with psycopg.connect(site.database) as upstream:
        upstream.execute("select from refill.account where name = %s for update", (ACCOUNTS[0],))
        b.running["intake"].signal(signal.SIGSTOP)  # so that it is the other one that reads
        site.spend(50, 120)
        eventually(lambda: site.pending(a) > 0, timeout=30)
        a.kill("intake")
        b.running["intake"].signal(signal.SIGCONT)
    a.running["worker"].wait_for_event("attempt.started")
    a.kill("worker")

    site.spend(120, SPENDS)
    eventually(lambda: site.pending(a) == 0, timeout=30)
    site.ends_exactly()
    assert b.stop() == [0, 0, 0]


def test_a_machine_that_is_cut_off_is_replaced_comes_back_and_the_other_can_be_stopped(site: Site) -> None:
    a, b = site.a, site.b
    site.spend(0, 60)
    cut_at = site.now()
    cut(site, a)
    assert site.takes_over(b, cut_at) < TAKEOVER
    site.leads_alone(b)
    site.spend(60, 110)
    mend(site, a)
    a.running["scheduler"].wait_for_event("scheduler.leadership_lost")

    eventually(lambda: site.outcomes() == 110 * len(ACCOUNTS), timeout=60)
    site.spend(110, 130)
    assert b.stop() == [0, 0, 0]
    site.spend(130, SPENDS)
    site.takes_over(a, cut_at)
    site.ends_exactly()
    assert a.stop() == [0, 0, 0]
    for machine in (a, b):
        assert "Traceback" not in "".join(process.output for process in machine.running.values())


def cut(site: Site, machine: Machine) -> None:
    """Cuts the machine's line; one without a line stands still."""
    if site.place.line is not None:
        site.place.line.set(machine.name, "down")
    else:
        machine.freeze()


def mend(site: Site, machine: Machine) -> None:
    if site.place.line is not None:
        site.place.line.set(machine.name, "up")
    else:
        machine.thaw()
