"""What is too old is not sent any more, and what stays open for a day is cancelled or handed to a person."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from jobs.charge import KEYS_GOOD_FOR, advance, due_charges
from tests.charging.steps import BeforeCancel, account_id, confirmed, confirming, created, reserved
from tests.charging.world import LIMITS, World
from tests.support.sandbox import Sandbox

MINUTE = timedelta(minutes=1)
CREATE = r"POST /v1/payment_intents$"
CONFIRM = r"POST /v1/payment_intents/[^/]+/confirm$"
CANCEL = r"POST /v1/payment_intents/[^/]+/cancel$"
READ = r"GET /v1/payment_intents/[^/]+$"


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    return shared_sandbox


def status(world: World, intent_id: str) -> str:
    return world.gateway.read(intent_id).status


def intent_of(world: World, charge_id: int) -> str:
    return str(world.one("select payment_intent from refill.charge where charge_id = %s", charge_id))


def test_keys_are_trusted_an_hour_less_than_the_processor_keeps_them() -> None:
    assert timedelta(hours=23) == KEYS_GOOD_FOR


@pytest.mark.parametrize(("late", "state"), [(-MINUTE, "succeeded"), (MINUTE, "cancelled")])
def test_a_reservation_is_sent_within_23_hours_or_never(world: World, late: timedelta, state: str) -> None:
    charge_id = reserved(world)
    opened_at = world.one("select opened_at from refill.charge")
    assert world.advance(charge_id, opened_at + timedelta(hours=23) + late) == state
    assert (world.one("select payment_intent from refill.charge") is None) == (state == "cancelled")


@pytest.mark.parametrize(("late", "state"), [(-MINUTE, "succeeded"), (MINUTE, "cancelled")])
def test_an_intent_is_first_confirmed_within_23_hours_or_taken_back(world: World, late: timedelta, state: str) -> None:
    charge_id, intent_id = created(world)
    opened_at = world.one("select opened_at from refill.charge")
    assert world.advance(charge_id, opened_at + timedelta(hours=23) + late) == state
    assert confirmed(world, intent_id) == (1 if state == "succeeded" else 0)
    assert status(world, intent_id) == ("succeeded" if state == "succeeded" else "canceled")


@pytest.mark.parametrize(("late", "state"), [(-MINUTE, "succeeded"), (MINUTE, "cancelled")])
def test_an_intent_is_confirmed_again_within_23_hours_or_taken_back(world: World, late: timedelta, state: str) -> None:
    charge_id, intent_id = created(world)
    world.sandbox.fault("drop_before", CONFIRM, count=3)
    assert world.advance(charge_id) == "unknown"
    sent = world.sandbox.requests(f"{intent_id}/confirm")

    opened_at = world.one("select opened_at from refill.charge")
    assert world.advance(charge_id, opened_at + timedelta(hours=23) + late) == state
    again = len(world.sandbox.requests(f"{intent_id}/confirm")) - len(sent)
    assert again == (1 if state == "succeeded" else 0)


def test_the_first_confirmation_keeps_its_time(world: World) -> None:
    charge_id, _ = created(world)
    first = world.now()
    world.sandbox.fault("drop_before", CONFIRM, count=3)
    world.advance(charge_id, first)
    assert world.advance(charge_id, first + timedelta(hours=2)) == "succeeded"
    assert world.one("select first_sent_at from refill.charge") == first
    assert world.one("select sent_at from refill.attempt") == first


def test_an_intent_that_could_not_be_taken_back_is_taken_back_later(world: World) -> None:
    charge_id, intent_id = created(world)
    world.connection.execute("update refill.policy set enabled = false")
    world.sandbox.fault("drop_before", CANCEL, count=3)
    assert world.advance(charge_id) == "unknown"
    assert "recharge was switched off" in world.one("select detail from refill.charge")

    assert world.advance(charge_id, world.now(minutes=2)) == "cancelled"
    assert status(world, intent_id) == "canceled"
    assert world.one("select state from refill.attempt") == "released"


def test_an_intent_that_cannot_be_taken_back_because_it_was_paid_is_settled(world: World) -> None:
    charge_id, intent_id = created(world)
    world.gateway.confirm(intent_id, f"{intent_id} by a worker that did not live to write it")
    world.connection.execute("update refill.policy set enabled = false")
    assert world.advance(charge_id) == "unknown"
    assert world.advance(charge_id, world.now(minutes=2)) == "succeeded"
    assert world.balance("anna") == 1_400


def test_a_refused_confirmation_of_what_was_paid_before_settles_it(world: World) -> None:
    charge_id, intent_id = created(world)
    world.gateway.confirm(intent_id, f"{intent_id} by a worker that did not live to write it")
    assert world.advance(charge_id) == "succeeded"
    assert world.balance("anna") == 1_400
    world.assert_books_are_clean()


def test_a_refused_confirmation_of_an_untried_intent_is_said_loudly_and_tried_again(world: World) -> None:
    charge_id, _ = created(world)
    world.sandbox.client().v1.payment_methods.detach(world.one("select payment_method from refill.card"))
    with capture_logs() as logs:
        assert world.advance(charge_id) == "unknown"
    (refused,) = [entry for entry in logs if entry["event"] == "charge.refused"]
    assert (refused["charge_id"], refused["log_level"]) == (charge_id, "error")
    assert world.one("select detail from refill.charge") == refused["error"]
    assert world.one("select count(*) from refill.card_state") == 0


def test_a_refused_creation_is_said_loudly_and_tried_again(world: World) -> None:
    charge_id = reserved(world)
    world.sandbox.client().v1.payment_methods.detach(world.one("select payment_method from refill.card"))
    with capture_logs() as logs:
        assert world.advance(charge_id) == "reserved"
    assert "charge.refused" in [entry["event"] for entry in logs]
    assert due_charges(world.connection, now=world.now(minutes=1)) == [charge_id]


def test_a_stored_error_of_a_creation_is_left_behind_with_a_fresh_key(world: World) -> None:
    charge_id = reserved(world)
    attempt_id = world.one("select attempt_id::text from refill.attempt")
    world.sandbox.fault("error_500_before", CREATE)
    states = [world.advance(charge_id) for _ in range(4)]
    assert states == ["reserved", "reserved", "reserved", "succeeded"]
    keys = [r["idempotency_key"] for r in world.sandbox.requests("payment_intents")]
    assert [key for key in keys if str(key).startswith(f"{attempt_id}:create")] == [
        f"{attempt_id}:create",
        f"{attempt_id}:create",
        f"{attempt_id}:create",
        f"{attempt_id}:create:3",
    ]


def test_an_intent_that_somebody_cancelled_ends_the_charge_and_counts_as_an_attempt(world: World) -> None:
    charge_id, intent_id = created(world)
    world.connection.execute("update refill.charge set state = 'confirming'")
    world.sandbox.client().v1.payment_intents.cancel(intent_id)
    assert world.advance(charge_id) == "cancelled"
    assert world.one("select state from refill.attempt") == "cancelled"
    assert world.evaluate(account_id(world)).decision.verdict == "card_cooling"


def test_a_decline_whose_intent_somebody_else_cancelled_is_a_decline(world: World) -> None:
    charge_id = reserved(world, "insufficient_funds")
    assert advance(world.connection, BeforeCancel(world), charge_id, LIMITS) == "unknown"
    assert world.advance(charge_id, world.now(minutes=2)) == "declined"
    assert world.messages("anna") == ["declined"]


def test_a_declined_intent_that_refuses_its_cancel_for_a_day_is_for_a_person(world: World) -> None:
    charge_id = reserved(world, "insufficient_funds")
    world.sandbox.fault("drop_before", CANCEL, count=3)
    assert world.advance(charge_id) == "unknown"
    assert advance(world.connection, BeforeCancel(world), charge_id, LIMITS, world.now(hours=25)) == "needs_review"


def test_a_declined_intent_whose_cancel_is_not_answered_for_a_day_is_for_a_person_until_it_is(world: World) -> None:
    charge_id = reserved(world, "insufficient_funds")
    for hours, state in ((0, "unknown"), (22, "unknown"), (25, "needs_review")):
        world.sandbox.fault("drop_before", CANCEL, count=3)
        assert world.advance(charge_id, world.now(hours=hours)) == state
    assert status(world, intent_of(world, charge_id)) == "requires_payment_method"

    assert world.advance(charge_id, world.now(hours=27)) == "declined"
    assert status(world, intent_of(world, charge_id)) == "canceled"


def test_what_is_processed_for_24_hours_and_refuses_its_cancel_is_for_a_person(world: World) -> None:
    world.sandbox.control("POST", "settings", {"processing_s": 3_600})
    charge_id = reserved(world, "processing")
    sent_at = world.now()
    assert world.advance(charge_id, sent_at) == "processing"
    assert world.advance(charge_id, sent_at + timedelta(hours=24) - MINUTE) == "processing"
    assert world.advance(charge_id, sent_at + timedelta(hours=24)) == "needs_review"


def test_an_intent_that_waits_for_its_customer_for_a_day_is_cancelled_and_pauses_the_card(world: World) -> None:
    charge_id, intent_id = created(world, "authentication_required")
    world.connection.execute("update refill.charge set state = 'confirming'")
    assert world.sandbox.client().v1.payment_intents.confirm(intent_id).status == "requires_action"
    assert world.advance(charge_id, world.now(hours=25)) == "needs_customer"
    assert world.one("select stop from refill.card_state") == "needs_customer"
    assert status(world, intent_id) == "canceled"


def test_an_intent_that_begins_to_wait_for_its_customer_is_cancelled_and_pauses_the_card(world: World) -> None:
    charge_id, intent_id = created(world, "authentication_required")
    world.connection.execute("update refill.charge set state = 'confirming'")
    world.sandbox.client().v1.payment_intents.confirm(intent_id)
    assert world.advance(charge_id) == "needs_customer"
    assert status(world, intent_id) == "canceled"
    assert world.one("select stop from refill.card_state") == "needs_customer"


def test_a_review_is_read_again_each_hour(world: World) -> None:
    charge_id, _ = created(world)
    world.connection.execute("update refill.charge set state = 'needs_review', next_check_at = now()")
    now = world.now()
    for fault in (None, "drop_before"):
        if fault is not None:
            world.sandbox.fault(fault, READ, count=3)
        assert world.advance(charge_id, now) == "needs_review"
        assert world.one("select next_check_at from refill.charge") == now + timedelta(hours=1)
        now += timedelta(hours=1)


def test_what_is_handed_over_is_read_again_within_the_hour(world: World) -> None:
    charge_id, intent_id = created(world)
    world.connection.execute("update refill.charge set net_minor = 999, amount_minor = 999")
    now = world.now()
    assert world.advance(charge_id, now) == "needs_review"
    assert world.one("select next_check_at from refill.charge") == now + timedelta(hours=1)
    assert confirmed(world, intent_id) == 1


def test_the_charge_that_waits_longest_is_looked_at_first(world: World) -> None:
    charges = [confirming(world, f"ok:{n}", f"anna-{n}") for n in range(3)]
    for charge_id, minutes in zip(charges, (2, 3, 1), strict=True):
        world.connection.execute(
            "update refill.charge set next_check_at = now() - make_interval(mins => %s) where charge_id = %s",
            (minutes, charge_id),
        )
    assert due_charges(world.connection) == [charges[1], charges[0], charges[2]]
    assert due_charges(world.connection, limit=1) == [charges[1]]


def test_a_charge_that_has_ended_is_asked_about_no_more(world: World) -> None:
    charge_id, intent_id = created(world)
    assert world.advance(charge_id) == "succeeded"
    asked = len(world.sandbox.requests(intent_id))
    assert world.advance(charge_id, world.now(days=2)) == "succeeded"
    assert len(world.sandbox.requests(intent_id)) == asked
    assert due_charges(world.connection, now=world.now(days=9)) == []
