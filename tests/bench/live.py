"""A whole refill under steady traffic: real processes, one of each, and an upstream that sends on time.

Beside the accounts of the ground, which only spend, there are some that cross: each has a card of its own and recharge
switched on, and one spend that takes it below its trigger.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from jobs.audit import audit
from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import connect
from tests.bench.ground import Ground
from tests.bench.watcher import Watcher, event_id
from tests.charging.world import World
from tests.support.processes import Processes, Running
from tests.support.sandbox import Sandbox
from tests.support.seed import grant, open_account
from tests.support.waiting import eventually
from worker.runs import JOBS

RATE = 1_000.0  # events in a second
GRANTED, TRIGGER, CROSSING_SPEND, RECHARGED = 1_000, 500, 600, 1_000  # credits of an account that crosses
_PATIENCE_S = 60.0
_IS_QUIET = """
select not exists (select from refill.watch) and not exists (select from refill.event_log where seq is null)
   and not exists (select from refill.charge_line where open)
   and count(*) filter (where finished_at is not null) >= %s
   and bool_and(finished_at is not null) filter (where job <> 'leadership')
from refill.job_slot
"""


@dataclass(frozen=True, slots=True)
class Live:
    """A running refill. `crossing` are the names of the accounts that may cross."""

    url: str
    redis_url: str
    sandbox: Sandbox
    accounts: int
    crossing: Sequence[str]
    processes: Mapping[str, Running]


@dataclass(frozen=True, slots=True)
class Sent:
    """What the upstream sent: when each event was due, when the ledger showed it, and by which event each account
    crossed. Times are in seconds since 1970."""

    due: Mapping[int, float]
    seen: Mapping[int, float]
    crossings: Mapping[str, int]
    unmeasured: int
    late_s: float

    @property
    def latencies_ms(self) -> list[float]:
        """From the moment an event was due to the moment it was there, after the unmeasured ones."""
        return [(self.seen[number] - due) * 1_000 for number, due in self.due.items() if number > self.unmeasured]


@contextmanager
def live(place: Ground, crossing: int, **settings: str) -> Iterator[Live]:
    """Starts a refill on a fresh ledger, with so many accounts that may cross; proves the books at the end."""
    name, processes = f"live_{time.monotonic_ns()}", Processes()
    url = place.ledger(name)
    with redis.Redis.from_url(place.redis_url) as client:
        client.flushall()  # the events of the ledger before would not be this one's
    with TemporaryDirectory(prefix="refill-bench-") as directory:
        sandbox = Sandbox(Path(directory) / "sandbox.db")
        sandbox.start()
        try:
            names = _open_crossing(url, sandbox, crossing)
            environment = _environment(url, place.redis_url, sandbox, Path(directory)) | settings
            started = {
                process: processes.refill(process, environment=environment)
                for process in ("intake", "scheduler", "worker")
            }
            started["intake"].wait_for_event("intake.started")
            wait_until_quiet(url)
            yield Live(url, place.redis_url, sandbox, place.accounts, names, started)
            _prove(url)
        finally:
            processes.close()
            sandbox.stop()
    place.drop(name)


def send(refill: Live, seconds: float, crossing: Sequence[str] = (), warm_up_s: float = 1.0) -> Sent:
    """Sends a steady stream in which these accounts cross, evenly spread; returns when all of it is in the ledger.

    The same traffic goes before it, unmeasured: what a process does once after its start has figures of its own.
    """
    before, measured = round(RATE * warm_up_s), round(RATE * seconds)
    first = before + measured // max(2 * len(crossing), 1) + 1
    crossings = {name: first + index * measured // len(crossing) for index, name in enumerate(crossing)}
    count = before + measured
    with TemporaryDirectory(prefix="refill-bench-") as directory:
        plan = Path(directory) / "plan.jsonl"
        plan.write_text("\n".join(_plan(refill.accounts, count, crossings)), encoding="utf-8")
        with Watcher(refill.url, count, warm_up_s + seconds + _PATIENCE_S) as watcher:
            start, late_s = _produce(refill.redis_url, plan)
    due = {number: start + (number - 1) / RATE for number in range(1, count + 1)}
    return Sent(due, watcher.seen(), crossings, before, late_s)


def wait_until_quiet(url: str) -> None:
    """Returns when every job has run, every event is published, and no account and no charge waits for anything."""
    with connect(url) as connection:
        eventually(lambda: connection.execute(_IS_QUIET, (len(JOBS),)).fetchall() == [(True,)], _PATIENCE_S)


def _open_crossing(url: str, sandbox: Sandbox, count: int) -> list[str]:
    """Accounts above their trigger, as if they had long been there: nothing is to be looked at."""
    names = [f"crossing-{number}" for number in range(1, count + 1)]
    with connect(url) as connection:
        world = World(connection, StripeGateway(sandbox.key, sandbox.url, 5.0), sandbox, url)
        for name in names:
            account_id = open_account(connection, name, email=f"{name}@example.com")
            grant(connection, account_id, GRANTED)
            world.save_card(account_id, f"ok:{name}")
        connection.execute("update refill.account set recharge_below = %s where name ~ '^crossing-'", (TRIGGER,))
        connection.execute(
            "insert into refill.policy (account_id, enabled, recharge_below, amount)"
            " select account_id, true, recharge_below, %s from refill.account where name ~ '^crossing-'",
            (RECHARGED,),
        )
        connection.execute("vacuum analyze")
    return names


def _plan(accounts: int, count: int, crossings: Mapping[str, int]) -> Iterator[str]:
    draw, crossing = random.Random(count), {number: account for account, number in crossings.items()}
    for number in range(1, count + 1):
        account, amount = f"account-{draw.randint(1, accounts)}", draw.randint(1, 100)
        if number in crossing:
            account, amount = crossing[number], CROSSING_SPEND
        yield json.dumps({"id": event_id(number), "account": account, "amount": str(amount)})


def _produce(redis_url: str, plan: Path) -> tuple[float, float]:
    """Runs the upstream to its end: when its first event was due, and how late its latest one was."""
    command = [sys.executable, "-m", "tests.bench.producer", str(plan), str(RATE)]
    done = subprocess.run(command, input=redis_url, stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(done.stdout)
    return said["start"], said["late_s"]


def _environment(url: str, redis_url: str, sandbox: Sandbox, directory: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "STRIPE_API_KEY": sandbox.key,
        "STRIPE_API_BASE": sandbox.url,
        "MAIL_DIR": str(directory / "mail"),
        "REFILL_LOG_FORMAT": "json",
    }


def _prove(url: str) -> None:
    with connect(url) as connection:
        connection.execute("analyze")
        findings = audit(connection)
        assert findings == [], findings
