"""Who shares an attempt on a card, within which caps, and what an account's credit is worth at that moment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobs.recharge import due_accounts
from tests.charging.steps import account_id, confirming
from tests.charging.world import World
from tests.support.sandbox import Sandbox
from tests.support.seed import grant


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    return shared_sandbox


def waiting(world: World, name: str, program: str = "points", cap_month: int | None = None, amount: int = 1_000) -> int:
    """An account below its trigger that is held back for the card."""
    waits = world.account(name, balance=400, program=program, cap_month=cap_month, amount=amount)
    assert world.evaluate(waits).decision.verdict == "card_cooling"
    return waits


def charged(world: World, charge_id: int | None) -> list[tuple[str, int]]:
    """The accounts of a charge, with what each pays."""
    return world.connection.execute(
        "select name, amount_minor from refill.charge_line join refill.account using (account_id)"
        " where charge_id = %s order by line",
        (charge_id,),
    ).fetchall()


def test_an_account_that_has_another_card_by_now_does_not_share_the_attempt_it_waited_for(world: World) -> None:
    world.recharge(world.account("anna", balance=400))
    bert, _ = waiting(world, "bert"), waiting(world, "cleo")
    world.connection.execute(
        "update refill.card set removed_at = now() where account_id = %s", (account_id(world, "cleo"),)
    )
    world.save_card(account_id(world, "cleo"), "ok:of cleo")

    charge_id = world.evaluate(bert, now=world.now(seconds=901)).charge_id
    assert charged(world, charge_id) == [("bert", 1_000)]


def test_an_account_of_another_program_does_not_share_the_attempt(world: World) -> None:
    world.recharge(world.account("anna", balance=400))
    bert, _, dora = waiting(world, "bert"), waiting(world, "cleo", program="sms"), waiting(world, "dora")
    assert dora

    charge_id = world.evaluate(bert, now=world.now(seconds=901)).charge_id
    assert charged(world, charge_id) == [("bert", 1_000), ("dora", 1_000)]


@pytest.mark.parametrize(("cap", "lines"), [(501, 2), (500, 1)])
def test_a_share_that_rounding_takes_over_its_cap_is_not_shared(world: World, cap: int, lines: int) -> None:
    """Each 500 for 5.004 dollars, 5.00 alone; both for 10.008, so that one of two pays 5.01."""
    world.connection.execute(
        """
        update refill.program set terms = jsonb_set(terms::jsonb, '{price,unit_price}', '"0.010008"')
        where name = 'points'
        """
    )
    world.recharge(world.account("anna", balance=400))
    bert, _ = (waiting(world, name, cap_month=cap, amount=500) for name in ("bert", "cleo"))

    paid = charged(world, world.evaluate(bert, now=world.now(seconds=901)).charge_id)
    assert len(paid) == lines
    assert all(amount <= cap for _, amount in paid)
    assert sum(amount for _, amount in paid) == (1_001 if lines == 2 else 500)


@pytest.mark.parametrize("period", ["month", "day"])
@pytest.mark.parametrize(("cap", "is_said"), [(1_250, True), (1_251, False)])
def test_four_fifths_of_a_cap_are_said(world: World, period: str, cap: int, is_said: bool) -> None:
    caps: dict[str, Any] = {f"cap_{period}": cap}
    anna = world.account(balance=400, **caps)
    with capture_logs() as logs:
        world.evaluate(anna)
    said = [(entry["period"], entry["used_minor"]) for entry in logs if entry["event"] == "recharge.cap_neared"]
    assert said == ([(period, 1_000)] if is_said else [])


def test_credit_that_died_and_was_not_swept_counts_as_gone(world: World) -> None:
    anna = world.account(balance=400)
    now = world.now()
    grant(world.connection, anna, 5_000, (now + timedelta(days=1)).isoformat())
    assert world.evaluate(anna, now=now).decision.verdict == "above_trigger"

    bought = world.evaluate(anna, now=now + timedelta(days=2))
    assert bought.decision.verdict == "recharge"
    assert world.balance("anna") == 400
    world.assert_books_are_clean()


def test_dead_credit_of_an_account_that_waits_counts_as_gone_too(world: World) -> None:
    world.recharge(world.account("anna", balance=400))
    bert, cleo = waiting(world, "bert"), waiting(world, "cleo")
    grant(world.connection, cleo, 5_000, world.now(seconds=300).isoformat())

    charge_id = world.evaluate(bert, now=world.now(seconds=901)).charge_id
    assert charged(world, charge_id) == [("bert", 1_000), ("cleo", 1_000)]


def test_the_account_that_waits_longest_is_looked_at_first(world: World) -> None:
    names = {name: world.account(name, None, balance=400) for name in ("anna", "bert", "cleo")}
    for name, minutes in (("anna", 2), ("bert", 3), ("cleo", 1)):
        world.connection.execute(
            "update refill.watch set due_at = now() - make_interval(mins => %s) where account_id = %s",
            (minutes, names[name]),
        )
    assert due_accounts(world.connection) == [names["bert"], names["anna"], names["cleo"]]
    assert due_accounts(world.connection, limit=1) == [names["bert"]]


def test_what_is_on_the_way_counts_towards_the_cap(world: World) -> None:
    confirming(world, cap_month=1_500)
    world.spend("anna", 400, "all of it")
    world.connection.execute("update refill.account set recharge_below = 5000")
    world.connection.execute("update refill.policy set recharge_below = 5000")
    assert world.evaluate(account_id(world)).decision.verdict == "charge_open"
    used = world.one("select facts ->> 'used_month' from refill.evaluation order by evaluation_id desc limit 1")
    assert used == "1000"
