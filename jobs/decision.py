"""Recharge or not: a pure function of what is known at one moment. `refill explain` shows the same facts and reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from jobs.errors import Malformed
from jobs.money import Money, format_money
from jobs.price import price, recharge_quantity
from jobs.program import Program
from jobs.throttle import CardFacts, Limits, hold

Verdict = Literal[
    "recharge",
    "above_trigger",
    "charge_open",
    "card_cooling",
    "card_attempts",
    "cap_month",
    "cap_day",
    "paused",
    "off",
    "no_card",
    "managed_elsewhere",
]


@dataclass(frozen=True, slots=True)
class Cap:
    """A money cap of one period: `used` is settled plus open, gross, in minor units; the next begins at `ends_at`."""

    most: int | None
    used: int
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one account. Credits in the smallest unit, money gross in minor units.

    `pending` is the credit of open charges. `bills` says whose card pays; `card` is None where there is none to bill.
    """

    program: Program
    balance: int
    pending: int
    recharge_below: int | None
    enabled: bool
    amount: int | None
    target: int | None
    bills: Literal["own", "manager"]
    open_charge_id: int | None
    card: CardFacts | None
    month: Cap
    day: Cap

    @property
    def projected(self) -> int:
        """The balance once every open charge has settled."""
        return self.balance + self.pending


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why in words, and when to look again; `credits` is what to buy where the verdict is `recharge`."""

    verdict: Verdict
    reason: str
    next_at: datetime | None = None
    credits: int = 0


def decide(facts: Facts, limits: Limits, now: datetime) -> Decision:
    """The verdict on one account. The first rule that speaks decides, from the plainest to the most particular."""
    if facts.recharge_below is None:
        return Decision("above_trigger", "the account has no trigger, or is closed")
    if facts.projected >= facts.recharge_below:
        return Decision("above_trigger", "the projected balance is not below the trigger")
    if facts.open_charge_id is not None:
        return Decision("charge_open", f"charge {facts.open_charge_id} is still open")
    return _not_set_up(facts) or _held_back(facts, limits, now) or _buy(facts)


def _not_set_up(facts: Facts) -> Decision | None:
    if not facts.enabled:
        return Decision("off", "automatic recharge is switched off")
    if facts.amount is None and facts.target is None:
        return Decision("off", "no recharge amount and no target is set")
    if facts.card is None and facts.bills == "manager":
        return Decision("managed_elsewhere", "the account's manager pays, and no card of the manager is known here")
    if facts.card is None:
        return Decision("no_card", "no card is saved for the account")
    return None


def _held_back(facts: Facts, limits: Limits, now: datetime) -> Decision | None:
    held = hold(facts.card, limits, now) if facts.card is not None else None
    return Decision(held.verdict, held.reason, held.next_at) if held is not None else None


def _buy(facts: Facts) -> Decision:
    wanted = recharge_quantity(
        facts.program,
        projected=facts.projected,
        recharge_below=facts.recharge_below or 0,
        amount=facts.amount,
        target=facts.target,
    )
    try:
        gross = price(facts.program, wanted).gross.minor
    except Malformed:
        return Decision("off", "the trigger or the target is further away than any purchase can reach")
    return _over_cap(facts, gross) or Decision("recharge", f"{facts.program.show(wanted)} are bought", credits=wanted)


def _over_cap(facts: Facts, gross: int) -> Decision | None:
    def money(minor: int) -> str:
        return format_money(Money(minor, facts.program.currency))

    caps: list[tuple[Verdict, Cap, str]] = [("cap_month", facts.month, "month"), ("cap_day", facts.day, "day")]
    for verdict, cap, period in caps:
        if cap.most is not None and cap.used + gross > cap.most:
            # A charge larger than the whole cap does not fit into the next period either.
            return Decision(
                verdict,
                f"{money(gross)} on top of {money(cap.used)} would exceed this {period}'s cap of {money(cap.most)}",
                cap.ends_at if gross <= cap.most else None,
            )
    return None
