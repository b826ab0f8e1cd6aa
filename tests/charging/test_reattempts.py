"""Attempts on a card that was declined are counted as the card networks count them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.charging.world import LIMITS, World
from tests.support.sandbox import Sandbox

DAY = timedelta(days=1)


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    return shared_sandbox


def reattempts(world: World) -> list[bool]:
    rows = world.connection.execute("select is_reattempt from refill.attempt order by reserved_at")
    return [is_reattempt for (is_reattempt,) in rows]


def test_an_attempt_after_a_decline_is_a_reattempt_and_held_by_their_number(world: World) -> None:
    anna, now = world.account(card="insufficient_funds", balance=400), world.now()
    assert world.recharge(anna, now=now) == "declined"
    assert world.recharge(anna, now=now + 2 * DAY) == "declined"
    assert reattempts(world) == [False, True]

    one = replace(LIMITS, reattempts_30d_max=1)
    held = world.evaluate(anna, one, now + 10 * DAY).decision
    assert (held.verdict, held.next_at) == ("card_attempts", now + 32 * DAY)
    assert world.evaluate(anna, one, now + 33 * DAY).decision.verdict == "recharge"


def test_an_attempt_after_a_success_repeats_nothing(world: World) -> None:
    anna, now = world.account(balance=400), world.now()
    world.recharge(anna, now=now)
    world.spend("anna", 1_000, "e1", now)
    world.recharge(anna, now=now + DAY)
    assert reattempts(world) == [False, False]


def test_the_card_of_another_account_is_repeated_too(world: World) -> None:
    anna, bert = (world.account(name, "insufficient_funds", balance=400) for name in ("anna", "bert"))
    now = world.now()
    world.recharge(anna, now=now)
    world.recharge(bert, now=now + 2 * DAY)
    assert reattempts(world) == [False, True]


def test_a_card_whose_holder_must_act_counts_as_declined(world: World) -> None:
    anna, now = world.account(card="authentication_required", balance=400), world.now()
    assert world.recharge(anna, now=now) == "needs_customer"
    world.connection.execute("update refill.card_state set stop = null, stop_reason = null, stopped_at = null")

    strict = replace(LIMITS, cooling_failure_s=0, declines_24h_max=1)
    held = world.evaluate(anna, strict, now + timedelta(hours=1)).decision
    assert (held.verdict, held.next_at) == ("card_attempts", now + DAY)
