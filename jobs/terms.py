"""What the holder of an account agrees to by switching recharge on: in words, as they are shown and kept."""

from __future__ import annotations

from jobs.facts import BilledCard
from jobs.money import Money, format_money
from jobs.policy import EffectivePolicy
from jobs.price import price, recharge_quantity
from jobs.program import Program


def recharge_costs(program: Program, policy: EffectivePolicy) -> Money | None:
    """What one recharge of the empty account would cost, tax included; None where the policy cannot say.

    Raises `Malformed` where it would be more than money can be kept.
    """
    trigger, amount, target = policy.recharge_below.value, policy.amount.value, policy.target.value
    if trigger is None or (amount is None and target is None):
        return None
    quantity = recharge_quantity(program, projected=0, recharge_below=trigger, amount=amount, target=target)
    return price(program, quantity).gross


def terms(program: Program, policy: EffectivePolicy, card: BilledCard | None) -> tuple[str, ...]:
    """The sentences: who is charged, when, how much and up to what; then what stands in the way of it now."""
    trigger, costs = policy.recharge_below.value, recharge_costs(program, policy)
    if not policy.enabled.value or trigger is None or costs is None:
        return ("Recharge is off: no card is charged.",)
    agreement = (
        f"{_payer(policy, card)} is charged whenever the balance falls below {program.show(trigger)},"
        f" {_each_time(program, policy, costs)}, {_limits(policy)}, until recharge is switched off."
    )
    return (agreement, *_obstacles(policy, card, costs))


def _payer(policy: EffectivePolicy, card: BilledCard | None) -> str:
    whose = "The manager's card" if policy.bills == "manager" else "The saved card"
    return whose if card is None else f"{whose} ({card.brand} ending in {card.last4})"


def _each_time(program: Program, policy: EffectivePolicy, costs: Money) -> str:
    if policy.target.value is not None:
        return f"for what fills it up to {program.show(policy.target.value)} (at most {format_money(costs)})"
    amount = policy.amount.value or 0
    return (
        f"for {program.show(amount)} at {format_money(price(program, amount).gross)} or as many times that as it takes"
    )


def _limits(policy: EffectivePolicy) -> str:
    limits = [f"at most {format_money(cap)} per {period}" for cap, period in _caps(policy)]
    return " and ".join(limits) or "without a cap"


def _obstacles(policy: EffectivePolicy, card: BilledCard | None, costs: Money) -> list[str]:
    missing = "No card is saved yet: nothing is charged until one is." if card is None else None
    too_small = [
        f"One recharge of the empty account costs {format_money(costs)}, more than the cap per {period}:"
        " it would be held back."
        for cap, period in _caps(policy)
        if cap < costs
    ]
    return [missing, *too_small] if missing is not None else too_small


def _caps(policy: EffectivePolicy) -> list[tuple[Money, str]]:
    caps = [(policy.cap_month.value, "calendar month"), (policy.cap_day.value, "day")]
    return [(cap, period) for cap, period in caps if cap is not None]
