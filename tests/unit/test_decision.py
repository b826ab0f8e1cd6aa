"""Recharge or not, as a table: an account with its policy, its card and its caps, and the verdict that follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.decision import Cap, Decision, Facts, decide
from jobs.money import AMOUNT_MAX
from jobs.price import price
from jobs.program import example_programs
from jobs.throttle import CardFacts, Limits, hold

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
MONTH_ENDS = datetime(2026, 4, 1, 7, 0, tzinfo=UTC)
DAY_ENDS = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LIMITS = Limits(900, 3600, 8, 3, 8, 3)
PROGRAMS = {program.name: program for program in example_programs()}
CARD = CardFacts("f")
STOPS = ["never", "operator", "breaker", "needs_customer", "new_details", "declined"]

# 1,000 points cost 10.00 USD: 1,000 minor units.
USUAL = Facts(
    program=PROGRAMS["points"],
    balance=400,
    pending=0,
    recharge_below=500,
    enabled=True,
    amount=1_000,
    target=None,
    bills="own",
    open_charge_id=None,
    card=CARD,
    month=Cap(None, 0, MONTH_ENDS),
    day=Cap(None, 0, DAY_ENDS),
)


def facts(**changes: Any) -> Facts:
    return replace(USUAL, **changes)


def month(most: int | None, used: int) -> Cap:
    return Cap(most, used, MONTH_ENDS)


def day(most: int | None, used: int) -> Cap:
    return Cap(most, used, DAY_ENDS)


class Row(NamedTuple):
    says: str
    facts: Facts
    verdict: str
    credits: int = 0
    next_at: datetime | None = None


COOLING = CardFacts("f", last_success_at=NOW)
MANY = CardFacts("f", attempts_24h=[NOW - 23 * HOUR, *[NOW - HOUR] * 7])

TABLE = [
    # The trigger.
    Row("exactly at the trigger", facts(balance=500), "above_trigger"),
    Row("one below the trigger", facts(balance=499), "recharge", 1_000),
    Row("no trigger", facts(recharge_below=None, balance=0), "above_trigger"),
    Row("an open charge lifts it to the trigger", facts(balance=0, pending=500, open_charge_id=7), "above_trigger"),
    Row("an open charge leaves it one short", facts(balance=0, pending=499, open_charge_id=7), "charge_open"),
    Row("above the trigger and off", facts(balance=500, enabled=False), "above_trigger"),
    # Not set up.
    Row("switched off", facts(enabled=False), "off"),
    Row("on, with neither amount nor target", facts(amount=None), "off"),
    Row("off without a card", facts(enabled=False, card=None), "off"),
    Row("no card", facts(card=None), "no_card"),
    Row("the manager pays and has no card", facts(card=None, bills="manager"), "managed_elsewhere"),
    Row("the manager pays and has a card", facts(bills="manager"), "recharge", 1_000),
    Row("off, with a charge still open", facts(enabled=False, open_charge_id=7), "charge_open"),
    # The card.
    *[Row(f"stopped: {stop}", facts(card=CardFacts("f", stop=stop, stop_reason="why")), "paused") for stop in STOPS],
    Row("cooling", facts(card=COOLING), "card_cooling", 0, NOW + timedelta(minutes=15)),
    Row("cooling ends now", facts(card=CardFacts("f", last_success_at=NOW - HOUR / 4)), "recharge", 1_000),
    Row("eight attempts", facts(card=MANY), "card_attempts", 0, NOW + HOUR),
    Row("in flight elsewhere", facts(card=CardFacts("f", in_flight_since=NOW)), "card_cooling", 0, NOW + HOUR / 4),
    Row(
        "stopped and over the cap",
        facts(card=CardFacts("f", stop="never", stop_reason="lost"), month=month(1, 0)),
        "paused",
    ),
    Row("cooling and over the cap", facts(card=COOLING, month=month(1_000, 1)), "card_cooling", 0, NOW + HOUR / 4),
    # The caps, in minor units, tax included.
    Row("the month's cap exactly reached", facts(month=month(5_000, 4_000)), "recharge", 1_000),
    Row("one over the month's cap", facts(month=month(5_000, 4_001)), "cap_month", 0, MONTH_ENDS),
    Row("larger than the whole month's cap", facts(month=month(999, 0)), "cap_month", 0, None),
    Row(
        "as large as the whole month's cap, and something spent",
        facts(month=month(1_000, 1)),
        "cap_month",
        0,
        MONTH_ENDS,
    ),
    Row("the day's cap exactly reached", facts(day=day(2_000, 1_000)), "recharge", 1_000),
    Row("one over the day's cap", facts(day=day(2_000, 1_001)), "cap_day", 0, DAY_ENDS),
    Row("larger than the whole day's cap", facts(day=day(999, 0)), "cap_day", 0, None),
    Row(
        "over both caps, the month's is told",
        facts(month=month(5_000, 4_001), day=day(2_000, 1_001)),
        "cap_month",
        0,
        MONTH_ENDS,
    ),
    Row(
        "tax counts: 500 SMS at 0.088 are 44.00 and 4.40 GST",
        facts(program=PROGRAMS["sms"], amount=500, month=month(4_839, 0)),
        "cap_month",
    ),
    Row("and fit into 48.40", facts(program=PROGRAMS["sms"], amount=500, month=month(4_840, 0)), "recharge", 500),
    # How much: the fewest packs that bring it to the trigger.
    Row("one pack just reaches the trigger", facts(balance=0, recharge_below=1_000), "recharge", 1_000),
    Row("one more than a pack is short", facts(balance=0, recharge_below=1_001), "recharge", 2_000),
    Row("five packs", facts(balance=0, recharge_below=5_000), "recharge", 5_000),
    Row(
        "the packs together are held to the cap",
        facts(balance=0, recharge_below=5_000, month=month(4_999, 0)),
        "cap_month",
    ),
    # Up to a target: the smallest quantity on sale that reaches it.
    Row("to a target in packs", facts(amount=None, target=2_000), "recharge", 2_000),
    Row("a target that packs meet exactly", facts(amount=None, target=1_900), "recharge", 1_500),
    Row(
        "a target in a program that sells any quantity",
        facts(program=PROGRAMS["sms"], amount=None, target=777),
        "recharge",
        377,
    ),
    # Out of reach.
    Row("a trigger that no purchase can reach", facts(recharge_below=AMOUNT_MAX), "off"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.says)
def test_the_verdict(row: Row) -> None:
    decision = decide(row.facts, LIMITS, NOW)
    assert (decision.verdict, decision.credits, decision.next_at) == (row.verdict, row.credits, row.next_at)


def test_every_verdict_says_why_in_words() -> None:
    assert {decide(row.facts, LIMITS, NOW).reason for row in TABLE} >= {
        "$10.00 on top of $40.01 would exceed this month's cap of $50.00",
        "$10.00 on top of $10.01 would exceed this day's cap of $20.00",
        "automatic recharge is switched off",
        "charge 7 is still open",
        "the card has had 8 attempts in 24 hours",
    }


amounts = st.integers(min_value=1, max_value=20_000)
spans = st.integers(min_value=0, max_value=30 * 86_400).map(lambda s: timedelta(seconds=s))
past_times = st.lists(spans.map(lambda span: NOW - span), max_size=10).map(lambda found: tuple(sorted(found)))
cards = st.builds(
    CardFacts,
    fingerprint=st.just("f"),
    stop=st.none() | st.sampled_from(STOPS),
    stop_reason=st.just("why"),
    not_before=st.none() | spans.map(lambda span: NOW + span - timedelta(days=15)),
    in_flight_since=st.none() | spans.map(lambda span: NOW - span),
    last_success_at=st.none() | spans.map(lambda span: NOW - span),
    last_failure_at=st.none() | spans.map(lambda span: NOW - span),
    attempts_24h=past_times,
    declines_24h=past_times,
    reattempts_30d=past_times,
)
some_facts = st.builds(
    Facts,
    program=st.sampled_from(list(PROGRAMS.values())),
    balance=st.integers(min_value=0, max_value=5_000),
    pending=st.integers(min_value=0, max_value=2_000),
    recharge_below=st.none() | amounts,
    enabled=st.booleans(),
    amount=st.none() | st.sampled_from([500, 1_000, 25_000]),
    target=st.none(),
    bills=st.sampled_from(["own", "manager"]),
    open_charge_id=st.none() | st.just(7),
    card=st.none() | cards,
    month=st.builds(month, st.none() | amounts, st.integers(min_value=0, max_value=30_000)),
    day=st.builds(day, st.none() | amounts, st.integers(min_value=0, max_value=30_000)),
) | st.builds(
    facts,
    balance=st.integers(0, 600),
    card=cards,
    month=st.builds(month, amounts, amounts),
    amount=st.none(),
    target=amounts,
)


@given(some_facts)
def test_nothing_is_bought_while_anything_forbids_it(known: Facts) -> None:
    decision = decide(known, LIMITS, NOW)
    if decision.verdict != "recharge":
        assert decision.credits == 0
        return
    assert_allowed(known, decision)
    assert known.projected + decision.credits >= (known.recharge_below or 0)


def assert_allowed(known: Facts, decision: Decision) -> None:
    assert known.enabled
    assert known.open_charge_id is None
    assert known.recharge_below is not None
    assert known.projected < known.recharge_below
    assert known.card is not None
    assert hold(known.card, LIMITS, NOW) is None
    gross = price(known.program, decision.credits).gross.minor
    assert all(cap.most is None or cap.used + gross <= cap.most for cap in (known.month, known.day))


@given(some_facts)
def test_a_decision_looks_again_only_later(known: Facts) -> None:
    decision = decide(known, LIMITS, NOW)
    assert decision.next_at is None or decision.next_at > NOW
