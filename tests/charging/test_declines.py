"""What a declined card sets off: once told, never hammered, never charged again against its issuer's will."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.throttle import Limits
from tests.charging.world import LIMITS, World


def test_the_first_decline_tells_the_holder_and_waits_as_long_as_the_issuer_asks(world: World) -> None:
    anna = world.account(card="insufficient_funds")
    world.spend("anna", 600, "e1")

    assert world.recharge(anna) == "declined"
    assert world.messages("anna") == ["declined"]
    assert "recharge.declined" in world.events("anna")
    held = world.evaluate(anna).decision
    assert held.verdict == "card_cooling"
    assert held.next_at is not None
    assert timedelta(hours=23) < held.next_at - world.now() <= timedelta(hours=24)
    assert world.balance("anna") == 400
    world.assert_books_are_clean()


@pytest.mark.parametrize("card", ["lost_card", "stolen_card"])
def test_a_card_that_must_never_be_tried_again_is_stopped_for_every_account(world: World, card: str) -> None:
    anna, bert = world.account("anna", card), world.account("bert", card)
    world.spend("anna", 600, "e1")
    world.recharge(anna)
    world.spend("bert", 600, "e2")

    assert world.evaluate(anna).decision.verdict == "paused"
    assert world.evaluate(bert, now=world.now(days=300)).decision.verdict == "paused"
    assert world.messages("anna") == ["paused"]
    assert world.messages("bert") == ["paused"]
    assert world.one("select stop from refill.card_state") == "never"
    assert world.confirmations() == 1


def test_a_different_card_ends_the_pause(world: World) -> None:
    anna = world.account(card="lost_card")
    world.spend("anna", 600, "e1")
    world.recharge(anna)
    world.connection.execute("update refill.card set removed_at = now()")
    world.save_card(anna, "ok")

    assert world.recharge(anna) == "succeeded"


def test_a_card_whose_holder_must_authenticate_waits_for_the_holder(world: World) -> None:
    anna = world.account(card="authentication_required")
    world.spend("anna", 600, "e1")

    assert world.recharge(anna) == "needs_customer"
    assert world.evaluate(anna).decision.verdict == "paused"


def test_an_expired_card_waits_for_new_details(world: World) -> None:
    anna = world.account(card="expired_card")
    world.spend("anna", 600, "e1")

    assert world.recharge(anna) == "declined"
    assert world.one("select stop from refill.card_state") == "new_details"


def test_three_declines_in_a_row_open_the_breaker(world: World) -> None:
    anna = world.account(card="insufficient_funds")
    world.spend("anna", 600, "e1")
    now = world.now()
    for wait in (timedelta(0), timedelta(hours=25), timedelta(hours=73)):
        now += wait
        assert world.recharge(anna, now=now) == "declined"

    assert world.evaluate(anna, now=now + timedelta(days=300)).decision.verdict == "paused"
    assert world.one("select stop from refill.card_state") == "breaker"
    assert world.messages("anna") == ["declined", "paused"]


def test_a_decline_counts_for_the_card_whichever_account_it_was_for(world: World) -> None:
    strict = Limits(**{**_as_dict(LIMITS), "cooling_failure_s": 0, "declines_24h_max": 1})
    anna, bert = world.account("anna", "processing_error"), world.account("bert", "processing_error")
    world.spend("anna", 600, "e1")
    world.recharge(anna, strict)
    world.spend("bert", 600, "e2")

    held = world.evaluate(bert, strict, now=world.now(hours=2)).decision
    assert held.verdict == "card_attempts"


def test_at_most_eight_attempts_in_24_hours(world: World) -> None:
    anna = world.account()
    now = world.now()
    for number in range(8):
        world.spend("anna", 1_000 if number else 600, f"e{number}", now)
        assert world.recharge(anna, now=now) == "succeeded"
        now += timedelta(minutes=16)
    world.spend("anna", 1_000, "last", now)

    held = world.evaluate(anna, now=now).decision
    assert held.verdict == "card_attempts"
    first = world.one("select min(reserved_at) from refill.attempt")
    assert held.next_at == first + timedelta(hours=24)
    assert "recharge.throttled" in world.events("anna")


def _as_dict(limits: Limits) -> dict[str, int]:
    return {name: getattr(limits, name) for name in Limits.__slots__}
