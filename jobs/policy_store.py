"""Policies in the database: an account's own settings, what they amount to, and who changed them.

A change is checked, written with what was before, after and shown, and takes effect at once: the account's levels are
set and the sweep is told where the balance is below the trigger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from psycopg.types.json import Jsonb

from jobs import program_store
from jobs.account import Account, find, find_open
from jobs.errors import Malformed, Refused
from jobs.facts import card_to_bill
from jobs.ledger.database import Connection, database_now
from jobs.levels import effective_levels, write_levels
from jobs.money import Money
from jobs.policy import (
    EffectivePolicy,
    PolicySettings,
    check_settings,
    check_unlocked,
    effective_policy,
)
from jobs.program import Program
from jobs.terms import recharge_costs, terms

log = structlog.get_logger()


class PolicyIncomplete(Refused):
    """Recharge cannot be switched on: there is no trigger, or nothing says how much to buy."""

    code = "policy_incomplete"


@dataclass(frozen=True, slots=True)
class PolicyView:
    """The policy of an account: its own settings, what is in effect, and that in words for its holder.

    `recharge_costs` is what one recharge of the empty account would cost, tax included; None where nothing is set.
    """

    account: str
    program: Program
    tier: str | None
    own: PolicySettings
    effective: EffectivePolicy
    recharge_costs: Money | None
    terms: tuple[str, ...]


def show(connection: Connection, account: str) -> PolicyView:
    """The policy of an account. Raises `UnknownAccount`."""
    holder = find(connection, account)
    program = program_store.find(connection, holder.program).program
    return _view(connection, holder, program, _own(connection, holder, program))


def set_policy(
    connection: Connection, account: str, wanted: PolicySettings, actor: str, now: datetime | None = None
) -> PolicyView:
    """Sets what `wanted` gives and leaves the rest; an amount replaces a target, and a target an amount.

    Raises `UnknownAccount`, `AccountClosed`, `FieldLocked`, `AmountNotOffered`, `PolicyIncomplete`, and `Malformed`
    where the settings contradict each other.
    """
    with connection.transaction():
        # The program before the account, as `refill program load` locks them.
        program = program_store.find(connection, find_open(connection, account).program, lock=True).program
        holder = find_open(connection, account, lock=True)
        check_settings(program, wanted)
        check_unlocked(program, holder.tier, wanted)
        before = _view(connection, holder, program, _own(connection, holder, program))
        after = _view(connection, holder, program, _merged(before.own, wanted))
        _check(after)
        if after.own != before.own:
            _write(connection, holder, after.own)
            _record(connection, holder, before, after, actor)
        moment = now or database_now(connection)
        write_levels(connection, holder.account_id, effective_levels(program, holder.tier, after.own), moment)
    if after.own != before.own:
        log.info("policy.changed", account=account, enabled=after.effective.enabled.value, actor=actor)
    return after


def _own(connection: Connection, holder: Account, program: Program) -> PolicySettings:
    row = connection.execute(
        "select alert_below, recharge_below, amount, target, cap_month, cap_day, enabled"
        " from refill.policy where account_id = %s",
        (holder.account_id,),
    ).fetchone()
    if row is None:
        return PolicySettings()
    alert_below, recharge_below, amount, target, cap_month, cap_day, enabled = row
    return PolicySettings(
        alert_below, recharge_below, amount, target, _cap(cap_month, program), _cap(cap_day, program), enabled
    )


def _cap(minor: int | None, program: Program) -> Money | None:
    return None if minor is None else Money(minor, program.currency)


def _merged(own: PolicySettings, wanted: PolicySettings) -> PolicySettings:
    given = {name: value for name in PolicySettings.__slots__ if (value := getattr(wanted, name)) is not None}
    if wanted.amount is not None or wanted.target is not None:
        own = replace(own, amount=None, target=None)
    return replace(own, **given)


def _view(connection: Connection, holder: Account, program: Program, own: PolicySettings) -> PolicyView:
    policy = effective_policy(program, holder.tier, own)
    shown = terms(program, policy, card_to_bill(connection, holder.account_id))
    return PolicyView(holder.name, program, holder.tier, own, policy, recharge_costs(program, policy), shown)


def _check(after: PolicyView) -> None:
    trigger, target = after.effective.recharge_below.value, after.effective.target.value
    if trigger is not None and target is not None and target < trigger:
        raise Malformed(f"the target {target:,} must be the trigger {trigger:,} or above")
    for cap in (after.own.cap_month, after.own.cap_day):
        if cap is not None and cap.minor < 1:
            raise Malformed("a cap must be above zero")
    if after.effective.enabled.value and after.recharge_costs is None:
        missing = "--recharge-below" if trigger is None else "--amount or --target"
        raise PolicyIncomplete(f"Recharge cannot be on for {after.account} without {missing}.")


def _write(connection: Connection, holder: Account, own: PolicySettings) -> None:
    connection.execute(
        "insert into refill.policy as p"
        " (account_id, alert_below, recharge_below, amount, target, cap_month, cap_day, enabled)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s)"
        " on conflict (account_id) do update set alert_below = excluded.alert_below,"
        " recharge_below = excluded.recharge_below, amount = excluded.amount, target = excluded.target,"
        " cap_month = excluded.cap_month, cap_day = excluded.cap_day, enabled = excluded.enabled, updated_at = now()",
        (
            holder.account_id,
            own.alert_below,
            own.recharge_below,
            own.amount,
            own.target,
            None if own.cap_month is None else own.cap_month.minor,
            None if own.cap_day is None else own.cap_day.minor,
            own.enabled is True,
        ),
    )


def _record(connection: Connection, holder: Account, before: PolicyView, after: PolicyView, actor: str) -> None:
    connection.execute(
        "insert into refill.policy_change (account_id, actor, before, after) values (%s, %s, %s, %s)",
        (
            holder.account_id,
            actor,
            Jsonb({"own": _plain(before.own), "effective": _in_effect(before.effective)}),
            Jsonb({"own": _plain(after.own), "effective": _in_effect(after.effective), "shown": list(after.terms)}),
        ),
    )


def _plain(own: PolicySettings) -> dict[str, object]:
    values = {name: getattr(own, name) for name in PolicySettings.__slots__}
    return {
        name: str(value) if isinstance(value, Money) else value for name, value in values.items() if value is not None
    }


def _in_effect(policy: EffectivePolicy) -> dict[str, object]:
    settings = {name: getattr(policy, name) for name in PolicySettings.__slots__}
    return {
        name: {"value": str(one.value) if isinstance(one.value, Money) else one.value, "source": one.source}
        for name, one in settings.items()
        if one.value is not None
    }
