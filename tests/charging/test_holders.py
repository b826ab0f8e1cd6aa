"""Whose card it is that pays, and who is told about it."""

from __future__ import annotations

from typing import LiteralString

import pytest

from jobs.facts import card_to_bill
from tests.charging.steps import account_id
from tests.charging.world import World
from tests.support.sandbox import Sandbox

BOSS, MEMBER = "boss@example.com", "member@example.com"


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    return shared_sandbox


def managed(world: World, card: str) -> int:
    """An account below its trigger that its manager's card pays for."""
    world.account("boss", card)
    world.connection.execute("update refill.account set is_system = true where name = 'boss'")
    member = world.account("member", None, balance=400)
    world.connection.execute("update refill.account set tier = 'managed' where name = 'member'")
    return member


def told(world: World, kind: str) -> list[tuple[str, str]]:
    return world.connection.execute(
        "select a.name, m.to_address from refill.message m join refill.account a using (account_id) where m.kind = %s",
        (kind,),
    ).fetchall()


@pytest.mark.parametrize(
    ("card", "kind"),
    [("ok", "recharge_succeeded"), ("insufficient_funds", "declined"), ("lost_card", "paused")],
)
def test_what_happens_to_the_managers_card_is_told_to_the_manager(world: World, card: str, kind: str) -> None:
    member = managed(world, card)
    world.recharge(member)
    world.evaluate(member)
    assert told(world, kind) == [("member", BOSS)]


@pytest.mark.parametrize(
    ("card", "kind"),
    [("ok", "recharge_succeeded"), ("insufficient_funds", "declined"), ("lost_card", "paused")],
)
def test_what_happens_to_ones_own_card_is_told_to_oneself_though_the_manager_has_it_too(
    world: World, card: str, kind: str
) -> None:
    member = managed(world, card)
    world.connection.execute("update refill.account set tier = null where name = 'member'")
    world.save_card(member, card)
    world.recharge(member)
    world.evaluate(member)
    assert told(world, kind) == [("member", MEMBER)]


def test_the_balance_of_a_managed_account_is_told_to_its_own_address(world: World) -> None:
    managed(world, "ok")
    world.spend("member", 400, "all of it")
    assert told(world, "depleted") == [("member", MEMBER)]


@pytest.mark.parametrize(
    "change",
    [
        "update refill.account set is_system = false",
        "update refill.account set closed_at = now() where is_system",
        """
        update refill.account set program_id = (select program_id from refill.program where name = 'sms')
        where is_system
        """,
        "update refill.card set removed_at = now()",
    ],
    ids=["no system account", "a closed one", "one of another program", "a card that was removed"],
)
def test_only_the_card_in_use_of_the_open_system_account_of_the_program_pays(
    world: World, change: LiteralString
) -> None:
    member = managed(world, "ok")
    world.save_card(member, "ok:of the member")
    bill = card_to_bill(world.connection, member)
    assert bill is not None
    assert bill == card_to_bill(world.connection, account_id(world, "boss"))

    world.connection.execute(change)
    assert card_to_bill(world.connection, member) is None
