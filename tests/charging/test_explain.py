"""Why it did, or did not, recharge: the answer, now and at past moments, after what really happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs import policy_store
from jobs.errors import UnknownAccount
from jobs.evidence import Explanation
from jobs.explain import explain
from jobs.policy import PolicySettings
from tests.charging.world import LIMITS, World
from tests.support.seed import grant, open_account

SECOND = timedelta(seconds=1)


def ask(world: World, account: str = "anna", at: datetime | None = None) -> Explanation:
    return explain(world.connection, account, LIMITS, at)


def answer(world: World, account: str = "anna", at: datetime | None = None) -> str:
    return ask(world, account, at).sentence


def test_a_recharge_that_happened(world: World) -> None:
    account_id = world.account()
    world.spend("anna", 600, "e1")
    assert world.recharge(account_id) == "succeeded"
    found = ask(world)
    assert found.sentence.startswith("Recharged ")
    assert found.sentence.endswith(
        "charge 1 brought 1,000 points for $10.00 (invoice POINTS-2026-000001);"
        " 1,400 points are not below the trigger of 500 points."
    )
    charge, attempt, message = found.charges[0], found.attempts[0], found.messages[0]
    assert charge.payment_intent is not None
    assert (charge.state, charge.invoice_number) == ("succeeded", "POINTS-2026-000001")
    assert (attempt.charge_id, attempt.accounts, attempt.state) == (charge.charge_id, ("anna",), "succeeded")
    assert (message.kind, message.to_address) == ("recharge_succeeded", "a***@example.com")
    assert [(row.kind, row.event_id, row.charge_id) for row in found.entries[-2:]] == [
        ("spend", "e1", None),
        ("recharge", None, charge.charge_id),
    ]
    assert [lot.charge_id for lot in found.standing.lots] == [None, charge.charge_id]


def test_a_card_that_was_charged_for_another_account(world: World) -> None:
    world.recharge(world.account("anna", balance=100))
    bert = world.account("bert", balance=100)
    world.evaluate(bert)
    found = ask(world, "bert")
    assert found.sentence.startswith("Not recharged: the card ending 4242 was charged ")
    assert " ago for anna (charge 1); it may be tried again at " in found.sentence
    assert found.sentence.endswith(" (in 14 min).")
    assert [decision.verdict for decision in found.decisions] == ["card_cooling"]


def test_a_decline_is_told_in_words(world: World) -> None:
    account_id = world.account(card="insufficient_funds", balance=100)
    world.recharge(account_id)
    assert ": the card has not enough funds; it may be tried again at " in answer(world)
    world.evaluate(account_id)
    assert ": the card has not enough funds; it may be tried again at " in answer(world)


def test_a_stopped_card(world: World) -> None:
    world.recharge(world.account(card="stolen_card", balance=100))
    found = ask(world)
    assert found.sentence.startswith("Not recharged: recharge is paused for the card ending ")
    assert "stolen" in found.sentence
    assert found.card is not None
    assert found.card.stop == "never"


def test_a_charge_that_is_open(world: World) -> None:
    account_id = world.account(balance=100)
    world.evaluate(account_id)
    assert "A recharge is under way: charge 1 over $10.00 for 1,000 points, opened " in answer(world)
    assert answer(world).endswith("is reserved and has not been sent yet.")
    assert ask(world).standing.projected == 1_100


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"enabled": False}, "Not recharged: automatic recharge is switched off."),
        ({"amount": None}, "Not recharged yet: a recharge of 1,000 points is due now"),  # the program's amount
        ({"cap_month": 999}, "Not recharged: $10.00 on top of $0.00 would exceed this month's cap of $9.99; one"),
    ],
)
def test_a_policy_has_its_say(world: World, policy: dict[str, Any], says: str) -> None:
    world.account(balance=100, **policy)
    assert answer(world).startswith(says)


def test_who_switched_it_off_is_named(world: World) -> None:
    world.account(balance=100)
    policy_store.set_policy(world.connection, "anna", PolicySettings(enabled=False), "operator:kim")
    assert answer(world).startswith("Not recharged: automatic recharge is switched off (by operator:kim at ")


def test_no_card(world: World) -> None:
    world.account(balance=100, card=None)
    assert answer(world) == "Not recharged: no card is saved for the account."


def test_no_trigger(world: World) -> None:
    open_account(world.connection, "office", "mail")
    assert answer(world, "office").startswith("Not recharged: no trigger is set")


def test_a_worker_that_does_not_come_is_told(world: World) -> None:
    account_id = world.account(balance=100)
    world.connection.execute(
        "insert into refill.watch values (%s, %s, %s) on conflict (account_id) do update set due_at = excluded.due_at",
        (account_id, world.now(minutes=-34), world.now(minutes=-34)),
    )
    assert answer(world).endswith(
        "is due now; it has waited 34 min for a worker: see `refill status` whether one runs."
    )


def test_credit_that_has_died_does_not_count_even_before_the_sweep(world: World) -> None:
    account_id = world.account(balance=100)
    grant(world.connection, account_id, 1_000, expires_at=(world.now() + SECOND).isoformat(), now=world.now())
    world.connection.execute(
        "update refill.lot set effective_at = effective_at - interval '1 day', expires_at = %s where granted = 1000",
        (world.now(),),
    )
    found = ask(world)
    assert (found.standing.balance, [lot.remaining for lot in found.standing.lots]) == (100, [100])
    assert found.sentence.startswith("Not recharged yet: a recharge of 1,000 points is due now")


# At a moment in the past: a day in May, each hour told from what was in the books by then.

MAY = datetime(2026, 5, 4, 0, 0, tzinfo=UTC)


def hour(number: float) -> datetime:
    return MAY + timedelta(hours=number)


@pytest.fixture
def day(world: World) -> World:
    """01:00 1,000 points; 02:00 700 spent; 03:00 declined; 04:00 looked at, cooling; 06:00 a gift lifts it above."""
    account_id = open_account(world.connection, "anna", "points", recharge_below=500)
    world.connection.execute("update refill.account set opened_at = %s", (hour(0.5),))
    world.connection.execute(
        "insert into refill.policy (account_id, enabled, recharge_below, amount) values (%s, true, 500, 1000)",
        (account_id,),
    )
    world.save_card(account_id, "declined")
    world.connection.execute("update refill.card set added_at = %s", (hour(0.6),))
    grant(world.connection, account_id, 1_000, now=hour(1))
    world.spend("anna", 700, "big", hour(2))
    assert world.recharge(account_id, now=hour(3)) == "declined"
    world.evaluate(account_id, now=hour(4))
    grant(world.connection, account_id, 900, now=hour(6))
    world.evaluate(account_id, now=hour(7))
    return world


def test_any_moment_of_the_past_is_told_from_what_was_in_the_books_by_then(day: World) -> None:
    expected = {
        0.25: (0, "Not recharged: the account was opened later, at 00:30 UTC."),
        1.5: (1_000, "No recharge was due: 1,000 points were not below the trigger of 500 points."),
        2.5: (
            300,
            "Not recharged: 300 points were below the trigger of 500 points, and nothing had been decided yet.",
        ),
        3.5: (
            300,
            (
                "Not recharged: charge 1 over $10.00 was declined at 03:00 UTC (declined without a reason),"
                " and nothing was decided since."
            ),
        ),
        5: (
            300,
            (
                "Not recharged: the card ending 0002 was declined 2 h before (charge 1): declined without a reason;"
                " it may be tried again at 2026-05-05 03:00 UTC (22 h later)."
            ),
        ),
        6: (1_200, "No recharge was due: 1,200 points were not below the trigger of 500 points."),
        8: (1_200, "No recharge was due: 1,200 points were not below the trigger of 500 points."),
    }
    found = {at: ask(day, at=hour(at)) for at in expected}
    assert {at: (one.standing.balance, one.sentence) for at, one in found.items()} == expected


def test_what_came_later_is_marked_and_counts_for_nothing(day: World) -> None:
    found = ask(day, at=hour(3.5))
    assert [(d.verdict, d.is_later) for d in found.decisions] == [
        ("above_trigger", True),
        ("card_cooling", True),
        ("recharge", False),
    ]
    assert [row.event_id for row in found.entries] == [None, "big"]
    assert [lot.remaining for lot in found.standing.lots] == [300]


def test_an_open_charge_of_the_past_is_told_with_its_end(world: World) -> None:
    account_id = world.account(balance=100)
    charge_id = world.evaluate(account_id).charge_id
    before_the_end = world.now()
    world.advance(charge_id)
    found = ask(world, at=before_the_end)
    assert found.sentence.startswith("A recharge was under way: charge 1 over $10.00 for 1,000 points, opened ")
    assert "was open; it succeeded at " in found.sentence
    assert (found.standing.balance, found.standing.pending) == (100, 1_000)


def test_the_policy_of_the_past_is_the_one_before_the_next_change(world: World) -> None:
    world.account(balance=1_000)
    before = world.now()
    policy_store.set_policy(world.connection, "anna", PolicySettings(recharge_below=900), "operator:kim")
    now, past = ask(world), ask(world, at=before)
    assert (past.recharge_below, now.recharge_below) == (500, 900)
    assert [(change.actor, change.is_later) for change in past.changes] == [("operator:kim", True)]
    sources = {line.name: line.source for line in now.policy}
    assert (sources["recharge_below"], sources["alert_below"]) == ("account", "program")


def test_an_account_that_idled_to_death_has_nothing_even_where_no_sweep_came(world: World) -> None:
    account_id = open_account(world.connection, "idle", "points")
    grant(world.connection, account_id, 1_000, now=MAY - timedelta(days=400))
    world.spend("idle", 1, "alive", MAY - timedelta(days=366))
    assert ask(world, "idle", MAY - timedelta(days=2)).standing.balance == 999
    assert ask(world, "idle", MAY).standing.balance == 0


def test_the_present_and_the_same_moment_as_past_agree(day: World) -> None:
    now = ask(day)
    past = ask(day, at=now.at)
    assert (past.standing, past.policy, past.entries) == (now.standing, now.policy, now.entries)


def test_an_account_that_nobody_knows(world: World) -> None:
    with pytest.raises(UnknownAccount):
        ask(world, "nobody")


def test_explaining_changes_nothing(day: World) -> None:
    counts = "select (select count(*) from refill.evaluation), (select count(*) from refill.event_log)"
    before = day.connection.execute(counts).fetchone()
    ask(day)
    assert day.connection.execute(counts).fetchone() == before
