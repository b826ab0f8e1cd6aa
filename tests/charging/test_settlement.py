"""What an ending writes: about the money, about the physical card, and about what is looked at next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobs.declines import Decline
from jobs.recharge import due_accounts
from jobs.settle import cancel, decline, settle
from tests.charging.steps import account_id, confirming, paid
from tests.charging.world import LIMITS, World
from tests.support.sandbox import Sandbox

FUNDS = Decline(decline_code="insufficient_funds")
ENDINGS: dict[str, Callable[[World, int], str]] = {
    "succeeded": lambda world, charge: settle(world.connection, charge, paid(world, charge), world.now()),
    "declined": lambda world, charge: decline(world.connection, charge, FUNDS, LIMITS, world.now()),
    "cancelled": lambda world, charge: cancel(world.connection, charge, "test", world.now(), is_unsent=True),
}


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    return shared_sandbox


def declined(world: World, said: Decline) -> str:
    return decline(world.connection, world.one("select max(charge_id) from refill.charge"), said, LIMITS, world.now())


def known_of_the_card(world: World, stop: str | None, later: timedelta = timedelta(0)) -> None:
    """Writes what is known of the physical card while its charge is on the way."""
    world.connection.execute(
        "insert into refill.card_state (fingerprint, stop, stop_reason, stopped_at, consecutive_declines, not_before)"
        " select fingerprint, %(stop)s, 'as before', now(), 2, now() + %(later)s from refill.charge"
        if stop is not None
        else "insert into refill.card_state (fingerprint, consecutive_declines, not_before)"
        " select fingerprint, 2, now() + %(later)s from refill.charge",
        {"stop": stop, "later": later},
    )


@pytest.mark.parametrize(
    "otherwise",
    [{"intent_id": "pi_other"}, {"amount": 999}, {"currency": "EUR"}, {"status": "processing"}],
    ids=["another intent", "another amount", "another currency", "no success"],
)
def test_an_answer_that_is_not_what_was_asked_for_grants_nothing(world: World, otherwise: dict[str, Any]) -> None:
    charge_id = confirming(world)
    answer = replace(paid(world, charge_id), **otherwise)
    assert settle(world.connection, charge_id, answer, world.now()) == "needs_review"
    assert world.balance("anna") == 400
    assert world.one("select count(*) from refill.invoice") == 0


@pytest.mark.parametrize("state", ENDINGS)
def test_an_ending_is_written_once(world: World, state: str) -> None:
    charge_id = confirming(world)
    assert ENDINGS[state](world, charge_id) == state
    before = world.one("select count(*) from refill.event_log")
    for again in ENDINGS.values():
        assert again(world, charge_id) == state
    assert world.one("select count(*) from refill.event_log") == before


@pytest.mark.parametrize("state", ENDINGS)
def test_an_ending_puts_its_account_before_the_next_sweep(world: World, state: str) -> None:
    charge_id = confirming(world)
    world.connection.execute("update refill.watch set due_at = 'infinity'")
    assert ENDINGS[state](world, charge_id) == state
    assert due_accounts(world.connection) == [account_id(world)]


def test_a_success_ends_the_row_of_declines_and_what_the_issuer_wished(world: World) -> None:
    charge_id = confirming(world)
    known_of_the_card(world, None, timedelta(days=1))
    settle(world.connection, charge_id, paid(world, charge_id), world.now())
    assert world.one("select consecutive_declines from refill.card_state") == 0
    assert world.one("select not_before = '-infinity' from refill.card_state")


def test_a_success_lifts_no_stop(world: World) -> None:
    charge_id = confirming(world)
    known_of_the_card(world, "operator")
    settle(world.connection, charge_id, paid(world, charge_id), world.now())
    assert world.one("select stop from refill.card_state") == "operator"


@pytest.mark.parametrize("before", ["operator", "breaker", "new_details"])
def test_what_the_network_says_for_ever_goes_over_every_other_stop(world: World, before: str) -> None:
    confirming(world)
    known_of_the_card(world, before)
    assert declined(world, Decline(decline_code="lost_card")) == "declined"
    assert world.one("select stop from refill.card_state") == "never"
    assert world.one("select stop_reason from refill.card_state") == "the card is reported lost"


@pytest.mark.parametrize("before", ["never", "operator"])
def test_a_stop_becomes_no_milder_by_a_later_decline(world: World, before: str) -> None:
    confirming(world)
    known_of_the_card(world, before)
    declined(world, Decline(code="expired_card"))
    assert world.one("select stop from refill.card_state") == before
    assert world.one("select stop_reason from refill.card_state") == "as before"


def test_a_later_decline_never_brings_the_next_try_forward(world: World) -> None:
    confirming(world)
    world.connection.execute(
        "insert into refill.card_state (fingerprint, not_before) select fingerprint, now() + interval '10 days'"
        " from refill.charge"
    )
    before = world.one("select not_before from refill.card_state")
    declined(world, FUNDS)
    assert world.one("select not_before from refill.card_state") == before


@pytest.mark.parametrize(("brand", "stop"), [("visa", None), ("mastercard", "never")])
def test_a_networks_advice_is_read_only_on_a_card_of_that_network(world: World, brand: str, stop: str | None) -> None:
    confirming(world)
    world.connection.execute("update refill.card set brand = %s", (brand,))
    declined(world, Decline(decline_code="do_not_honor", network_advice_code="03"))
    assert world.one("select stop from refill.card_state") == stop


def test_a_duplicate_stops_the_card_until_an_operator_has_found_the_other_payment(world: World) -> None:
    confirming(world)
    with capture_logs() as logs:
        assert declined(world, Decline(decline_code="duplicate_transaction")) == "cancelled"
    assert "card.needs_operator" in [entry["event"] for entry in logs]
    assert world.one("select state from refill.attempt") == "cancelled"
    assert world.one("select stop from refill.card_state") == "operator"
    assert world.messages("anna") == []


def test_a_card_that_may_have_been_asked_cools_down_as_after_a_decline(world: World) -> None:
    charge_id = confirming(world)
    cancel(world.connection, charge_id, "cancelled at the processor", world.now(), is_unsent=False)
    ended_at = world.one("select ended_at from refill.charge")

    held = world.evaluate(account_id(world), now=ended_at).decision
    assert (held.verdict, held.next_at) == ("card_cooling", ended_at + timedelta(seconds=LIMITS.cooling_failure_s))
    one = replace(LIMITS, attempts_24h_max=1)
    assert world.evaluate(account_id(world), one, ended_at + timedelta(hours=2)).decision.verdict == "card_attempts"


def test_a_card_that_was_provably_not_asked_is_free_at_once(world: World) -> None:
    charge_id = confirming(world)
    cancel(world.connection, charge_id, "not sent", world.now(), is_unsent=True)
    one = replace(LIMITS, attempts_24h_max=1)
    assert world.evaluate(account_id(world), one).decision.verdict == "recharge"


@pytest.mark.parametrize(("program", "days"), [("mail", 180), ("points", None), ("sms", None)])
def test_credit_that_was_bought_dies_as_its_program_says(world: World, program: str, days: int | None) -> None:
    charge_id = confirming(world, program=program)
    now = world.now()
    settle(world.connection, charge_id, paid(world, charge_id), now)
    dies_at = world.one("select nullif(expires_at, 'infinity') from refill.lot where class = 'paid'")
    assert dies_at == (None if days is None else now + timedelta(days=days))
