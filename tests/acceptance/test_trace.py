"""Real traffic: an hour of requests to a language model, spent by fifty accounts, whole and with everything killed."""

from __future__ import annotations

import random
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import stripe

from jobs import account, card, grant, organisation, policy_store
from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import connect
from jobs.money import Money
from jobs.policy import PolicySettings
from tests.acceptance.story import Refill
from tests.support.processes import REFILL, ROOT, Processes, clean_environment
from tests.support.waiting import eventually
from worker.replay import plan_replay
from worker.trace import read_trace

TRACE = ROOT.parent / "shared" / "data" / "azure-llm-code-2023.csv"
ACCOUNTS = [f"tenant-{number:02}" for number in range(1, 51)]
SEED = 7
EVENTS = 8_819
ARGUMENTS = ["replay", str(TRACE), "--program", "points", "--accounts", "50", "--seed", str(SEED)]

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not TRACE.exists(), reason="the trace lies beside the project, not in it"),
]


@dataclass(frozen=True)
class Figures:
    """What must be the same however often the replay is sent, and whatever was killed meanwhile."""

    outcomes: int
    charges_per_account: Counter[str]
    refusals_without_shortfall: int


def spends() -> dict[str, int]:
    """What each account spends in the trace."""
    totals: Counter[str] = Counter()
    for event in plan_replay(read_trace(TRACE), ACCOUNTS, "points", SEED).events:
        totals[str(event.fields["account"])] += int(event.fields["amount"])
    return totals


def open_accounts(refill: Refill) -> None:
    """Fifty accounts, each granted half of what it is about to spend, each recharging from a card of its own."""
    gateway = StripeGateway(refill.environment["STRIPE_API_KEY"], refill.environment["STRIPE_API_BASE"], 10.0)
    with connect(refill.environment["DATABASE_URL"]) as connection:
        organisation.create(connection, "tenants", "points", None, "test")
        for number, (name, total) in enumerate(sorted(spends().items())):
            account.open_account(connection, name, "tenants", "points", "test")
            grant.grant(connection, name, total // 2, "half of the trace", "test")
            card.add(connection, gateway, name, "test", test_card=f"ok:{number}")
            cap = Money(10_000_000, "USD")
            wanted = PolicySettings(recharge_below=total // 4, amount=25_000, cap_month=cap, enabled=True)
            policy_store.set_policy(connection, name, wanted, "test")


def figures(refill: Refill) -> Figures:
    charged = refill.rows("select account from refill.charge_history where state = 'succeeded'")
    return Figures(
        refill.one("select count(*) from refill.spend_outcome"),
        Counter(name for (name,) in charged),
        refill.one(
            "select count(*) from refill.spend_outcome where outcome = 'insufficient_credit' and shortfall is null"
        ),
    )


def assert_every_account_was_charged_once(refill: Refill) -> Figures:
    """Each falls below its trigger in the trace, and the rest after its success keeps it to one charge."""
    found = eventually(lambda: sum((f := figures(refill)).charges_per_account.values()) == 50 and f, timeout=120)
    assert isinstance(found, Figures)
    assert set(found.charges_per_account.values()) == {1}
    assert found.outcomes == EVENTS
    assert found.refusals_without_shortfall == 0
    return found


def assert_nothing_is_lost_or_made(refill: Refill) -> None:
    refill.command("audit")
    granted, spent, left = refill.rows(
        "select (select sum(amount) from refill.entry where kind in ('promotion', 'recharge')),"
        " (select sum(amount) from refill.spend_outcome where outcome = 'accepted'),"
        " (select sum(balance) from refill.balance)"
    )[0]
    assert granted == spent + left


@pytest.fixture
def refill(tmp_path: Path) -> Iterator[Refill]:
    processes = Processes()
    refill = Refill(processes, tmp_path / "data")
    refill.start()
    open_accounts(refill)
    yield refill
    processes.close()


def test_the_trace_gives_8819_outcomes_and_the_same_again_changes_nothing(refill: Refill) -> None:
    (first,) = refill.command(*ARGUMENTS)
    assert sum(first["outcomes"].values()) == EVENTS
    once = assert_every_account_was_charged_once(refill)
    assert_nothing_is_lost_or_made(refill)
    before = refill.rows("select * from refill.spend_outcome order by event_id")

    (second,) = refill.command(*ARGUMENTS)
    assert second["outcomes"] == first["outcomes"]
    assert refill.rows("select * from refill.spend_outcome order by event_id") == before
    assert figures(refill) == once
    assert_nothing_is_lost_or_made(refill)


def test_after_kill_9_of_every_process_in_the_midst_of_it_the_figures_are_the_same(refill: Refill) -> None:
    rng = random.Random(SEED)
    sender = subprocess.Popen(
        [str(REFILL), *ARGUMENTS, "--speed", "300"],
        env=clean_environment(**refill.environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    names = ["intake", "worker", "scheduler", "sandbox", "redis", "postgres"]
    rng.shuffle(names)
    for name in names:
        posted_before = outcomes_or_none(refill) or 0
        moment = posted_before + rng.randrange(50, 600)
        wait_for_outcomes(refill, moment, sender)
        kill_newest(refill, name)
    kill(refill.up.pid)
    refill.up.wait()
    sender.wait(timeout=120)

    refill.start()
    (again,) = refill.command(*ARGUMENTS)
    assert sum(again["outcomes"].values()) == EVENTS
    assert_every_account_was_charged_once(refill)
    assert_nothing_is_lost_or_made(refill)
    assert succeeded_at_the_processor(refill) == 50


def wait_for_outcomes(refill: Refill, count: int, sender: subprocess.Popen[bytes]) -> None:
    """Waits until so many outcomes are known, or the sender has ended."""
    eventually(lambda: (outcomes_or_none(refill) or 0) >= count or sender.poll() is not None, timeout=60)


def outcomes_or_none(refill: Refill) -> int | None:
    """How many outcomes there are, or None while Postgres is down."""
    try:
        return int(refill.one("select count(*) from refill.spend_outcome"))
    except psycopg.OperationalError:
        return None


def kill_newest(refill: Refill, name: str) -> None:
    """kill -9 of the running process of this name, which the supervisor then starts again."""
    lives = [
        e["pid"]
        for e in refill.up.events()
        if e["event"] in ("process.started", "process.restarted") and e["name"] == name
    ]
    kill(lives[-1])


def kill(pid: int) -> None:
    psutil.Process(pid).send_signal(signal.SIGKILL)


def succeeded_at_the_processor(refill: Refill) -> int:
    """How many payments the processor itself holds for succeeded."""
    client = stripe.StripeClient(
        refill.environment["STRIPE_API_KEY"], base_addresses={"api": refill.environment["STRIPE_API_BASE"]}
    )
    intents = client.v1.payment_intents.list({"limit": 100}).auto_paging_iter()
    return len([intent for intent in intents if intent.status == "succeeded"])
