"""A charge reaches its end whatever is lost on the way, and takes money once.

Each test ends one way of losing: an answer, a request, a worker (as if killed between two steps), the processor itself.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import LiteralString

import pytest

from jobs.charge import advance, due_charges
from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import connect
from tests.charging.world import LIMITS, World
from tests.support.sandbox import Sandbox

CREATE = r"POST /v1/payment_intents$"
CONFIRM = r"POST /v1/payment_intents/[^/]+/confirm$"


class Killed(Exception):
    """The worker is gone: nothing after this line happens."""


class KilledGateway(StripeGateway):
    """The real gateway in a worker that is killed right before or right after one of its requests."""

    def __init__(self, world: World, step: str, moment: str) -> None:
        super().__init__(world.sandbox.key, world.sandbox.url, 5.0)
        self._step, self._moment = step, moment

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name.startswith("_") or name != self._step:
            return method

        def killed(*arguments: object) -> None:
            if self._moment == "after":
                method(*arguments)
            raise Killed

        return killed


def reserved(world: World, card: str = "ok") -> int:
    anna = world.account(card=card)
    world.spend("anna", 600, "e1")
    charge_id = world.evaluate(anna).charge_id
    assert charge_id is not None
    return charge_id


def assert_charged_exactly_once(world: World, charge_id: int) -> None:
    assert world.state(charge_id) == "succeeded"
    intents = [
        i for i in world.sandbox.client().v1.payment_intents.list().auto_paging_iter() if i.status == "succeeded"
    ]
    assert [(intent.amount, intent.currency) for intent in intents] == [(1_000, "usd")]
    assert world.balance("anna") == 1_400
    assert world.one("select count(*) from refill.lot where class = 'paid'") == 1
    assert world.one("select count(*) from refill.invoice") == 1
    world.assert_books_are_clean()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["create", "confirm"])
def test_a_worker_killed_around_a_request_leaves_a_charge_that_the_sweep_ends(
    world: World, step: str, moment: str
) -> None:
    charge_id = reserved(world)
    with pytest.raises(Killed):
        advance(world.connection, KilledGateway(world, step, moment), charge_id, LIMITS)

    later = world.now(seconds=61)
    assert due_charges(world.connection, now=later) == [charge_id]
    assert world.advance(charge_id, later) == "succeeded"
    assert_charged_exactly_once(world, charge_id)


@pytest.mark.parametrize("path", [CREATE, CONFIRM])
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "rate_limit", "conflict"])
def test_a_fault_that_passes_is_survived_within_the_same_step(world: World, kind: str, path: str) -> None:
    charge_id = reserved(world)
    world.sandbox.fault(kind, path)
    assert world.advance(charge_id) == "succeeded"
    assert_charged_exactly_once(world, charge_id)


@pytest.mark.parametrize("kind", ["error_500_before", "error_500_after"])
def test_a_stored_500_is_no_decline_and_is_resolved_by_reading(world: World, kind: str) -> None:
    charge_id = reserved(world)
    world.sandbox.fault(kind, CONFIRM)
    now = world.now()
    state = world.advance(charge_id, now)
    for _ in range(5):
        if state == "succeeded":
            break
        assert state == "unknown"
        now = world.one("select next_check_at from refill.charge")
        state = world.advance(charge_id, now)
    assert "declined" not in world.messages("anna")
    assert_charged_exactly_once(world, charge_id)


def test_an_unknown_outcome_allows_no_other_charge_on_the_account(world: World) -> None:
    charge_id = reserved(world)
    world.sandbox.fault("drop_before", CONFIRM, count=3)
    assert world.advance(charge_id) == "unknown"

    anna = world.one("select account_id from refill.account where name = 'anna'")
    world.connection.execute("update refill.policy set recharge_below = 9000")
    assert world.evaluate(anna, now=world.now(hours=20)).decision.verdict == "charge_open"


def test_an_unknown_charge_is_looked_at_after_1_5_30_minutes_and_2_and_12_hours(world: World) -> None:
    charge_id = reserved(world)
    world.sandbox.fault("drop_before", r"payment_intents/", count=100)
    now = world.now()
    gaps = []
    world.advance(charge_id, now)
    for _ in range(5):
        check_at = world.one("select next_check_at from refill.charge")
        gaps.append(check_at - now)
        now = check_at
        assert world.advance(charge_id, now) == "unknown"
    assert gaps == [timedelta(minutes=m) for m in (1, 5, 30, 120, 720)]


def test_what_stays_unknown_for_24_hours_is_cancelled_which_proves_that_nothing_follows(world: World) -> None:
    charge_id = reserved(world)
    world.sandbox.fault("drop_before", CONFIRM, count=3)
    assert world.advance(charge_id) == "unknown"

    assert world.advance(charge_id, world.now(hours=25)) == "cancelled"
    intent = world.sandbox.client().v1.payment_intents.retrieve(world.one("select payment_intent from refill.charge"))
    assert intent.status == "canceled"
    assert world.one("select state from refill.attempt") == "released"
    world.assert_books_are_clean()


def test_a_processing_payment_is_waited_for_and_then_settled(world: World) -> None:
    charge_id = reserved(world, "processing")
    assert world.advance(charge_id) == "processing"
    world.sandbox.advance(10)
    assert world.advance(charge_id, world.one("select next_check_at from refill.charge")) == "succeeded"
    assert_charged_exactly_once(world, charge_id)


def test_a_processor_that_is_killed_and_comes_back_has_forgotten_nothing(world: World) -> None:
    charge_id = reserved(world)
    world.sandbox.kill()
    assert world.advance(charge_id) == "reserved"
    world.sandbox.start()
    assert world.advance(charge_id, world.now(minutes=2)) == "succeeded"
    assert_charged_exactly_once(world, charge_id)


def test_a_reservation_that_was_never_sent_is_given_back_after_23_hours(world: World) -> None:
    charge_id = reserved(world)
    assert world.advance(charge_id, world.now(hours=24)) == "cancelled"
    assert [r for r in world.sandbox.requests("payment_intents") if r["method"] == "POST"] == []
    assert world.one("select state from refill.attempt") == "released"


def test_two_workers_at_one_charge_settle_it_once(world: World) -> None:
    charge_id = reserved(world)

    def work() -> None:
        with connect(world.url) as connection:
            advance(connection, world.gateway, charge_id, LIMITS)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.advance(charge_id) == "succeeded"
    assert_charged_exactly_once(world, charge_id)


def test_a_success_with_another_amount_is_granted_by_nobody_but_a_person(world: World) -> None:
    charge_id = reserved(world)
    world.connection.execute("update refill.charge set net_minor = 999, amount_minor = 999")
    assert world.advance(charge_id) == "needs_review"
    assert world.balance("anna") == 400
    assert "1000" in world.one("select detail from refill.charge")


def test_a_minute_at_the_wrong_processor_account_stops_no_card(world: World, tmp_path: Path) -> None:
    charge_id = reserved(world)
    elsewhere = Sandbox(tmp_path / "elsewhere.db", world.sandbox.key)
    elsewhere.start()
    stranger = StripeGateway(elsewhere.key, elsewhere.url, 5.0)
    try:
        assert advance(world.connection, stranger, charge_id, LIMITS) == "reserved"
    finally:
        elsewhere.stop()
    assert "No such" in world.one("select detail from refill.charge")
    assert world.one("select count(*) from refill.card_state where stop is not null") == 0

    assert world.advance(charge_id) == "succeeded"
    assert_charged_exactly_once(world, charge_id)


@pytest.mark.parametrize("card", ["authentication_required", "insufficient_funds"])
def test_a_payment_that_was_declined_can_never_succeed_later(world: World, card: str) -> None:
    charge_id = reserved(world, card)
    assert world.advance(charge_id) in ("needs_customer", "declined")
    (intent,) = world.sandbox.client().v1.payment_intents.list().data
    assert intent.status == "canceled"


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_a_decline_is_not_forgotten_when_the_answer_to_the_cancel_is_lost(world: World, kind: str) -> None:
    charge_id = reserved(world, "insufficient_funds")
    world.sandbox.fault(kind, r"/cancel$", count=3)
    state = world.advance(charge_id)
    if state == "unknown":
        state = world.advance(charge_id, world.now(minutes=2))
    assert state == "declined"
    assert world.messages("anna") == ["declined"]


@pytest.mark.parametrize(
    "withdraw",
    [
        """insert into refill.card_state (fingerprint, stop, stop_reason, stopped_at)
           select fingerprint, 'operator', 'stolen', now() from refill.card""",
        "update refill.policy set enabled = false",
        "update refill.card set removed_at = now()",
    ],
    ids=["card blocked", "switched off", "card replaced"],
)
def test_what_was_withdrawn_before_it_was_sent_is_not_charged(world: World, withdraw: LiteralString) -> None:
    charge_id = reserved(world)
    world.sandbox.fault("drop_before", CREATE, count=3)
    assert world.advance(charge_id) == "reserved"
    world.connection.execute(withdraw)

    assert world.advance(charge_id, world.now(minutes=1)) == "cancelled"
    assert world.confirmations() == 0
    assert world.one("select state from refill.attempt") == "released"


def test_what_was_withdrawn_between_create_and_confirm_is_taken_back(world: World) -> None:
    charge_id = reserved(world)
    with pytest.raises(Killed):
        advance(world.connection, KilledGateway(world, "confirm", "before"), charge_id, LIMITS)
    world.connection.execute("update refill.policy set enabled = false")

    assert world.advance(charge_id, world.now(minutes=1)) == "cancelled"
    (intent,) = world.sandbox.client().v1.payment_intents.list().data
    assert intent.status == "canceled"


def test_a_ledger_restored_to_the_moment_after_a_reservation_finds_what_was_paid(world: World) -> None:
    charge_id = reserved(world)
    backup = world.one("select to_jsonb(c) from refill.charge c")
    gateway = world.gateway
    request, attempt_id = world.connection.execute("select request, attempt_id::text from refill.attempt").fetchall()[0]
    intent = gateway.create(request, f"{attempt_id}:create")
    gateway.confirm(intent.intent_id, f"{attempt_id}:confirm")
    assert backup["state"] == "reserved"

    assert world.advance(charge_id, world.now(hours=25)) == "succeeded"
    assert_charged_exactly_once(world, charge_id)


def test_what_a_person_clears_up_at_the_processor_ends_the_review(world: World) -> None:
    charge_id = reserved(world)
    world.connection.execute("update refill.charge set net_minor = 999, amount_minor = 999")
    assert world.advance(charge_id) == "needs_review"
    world.connection.execute("update refill.charge set net_minor = 1000, amount_minor = 1000")

    later = world.now(hours=2)
    assert due_charges(world.connection, now=later) == [charge_id]
    assert world.advance(charge_id, later) == "succeeded"


def test_a_processor_that_is_away_for_hours_is_asked_again_within_minutes(world: World) -> None:
    charge_id = reserved(world)
    now = world.now()
    world.sandbox.fault("drop_before", CREATE, count=100)
    for _ in range(5):
        assert world.advance(charge_id, now) == "reserved"
        now = world.one("select next_check_at from refill.charge")
    gap = world.one("select max(next_check_at) from refill.charge") - world.now()
    assert gap < timedelta(minutes=20)
