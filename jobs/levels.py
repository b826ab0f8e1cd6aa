"""The levels in effect, copied from policy, tier and program to the account, where a posting sees a crossing at once.

The trigger on refill.account announces what a changed level means: a balance that is low now, a recharge that is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jobs.ledger.database import Connection, fetch_one
from jobs.policy import PolicySettings, effective_policy
from jobs.program import Program


@dataclass(frozen=True, slots=True)
class Levels:
    """Credits in the program's smallest unit; None where nothing is said. The trigger is kept while recharge is off."""

    alert_below: int | None
    recharge_below: int | None


def effective_levels(program: Program, tier: str | None, own: PolicySettings) -> Levels:
    """What applies to an account with these settings of its own. Raises `UnknownTier`."""
    policy = effective_policy(program, tier, own)
    return Levels(policy.alert_below.value, policy.recharge_below.value)


def write_levels(connection: Connection, account_id: int, levels: Levels, now: datetime) -> None:
    """Sets the levels of one account and puts it before the sweep where it is below its trigger.

    Belongs into a transaction that has locked the account.
    """
    connection.execute(
        "update refill.account set alert_below = %(alert)s, recharge_below = %(recharge)s, updated_at = %(now)s"
        " where account_id = %(id)s and (alert_below, recharge_below) is distinct from (%(alert)s, %(recharge)s)",
        {"alert": levels.alert_below, "recharge": levels.recharge_below, "now": now, "id": account_id},
    )
    watch_if_below(connection, [account_id], now)


def watch_if_below(connection: Connection, account_ids: list[int], now: datetime) -> int:
    """Puts those of the accounts that are open and below their trigger before the sweep, now; returns how many."""
    count: int = fetch_one(
        connection,
        "select count(refill.watch_account(account_id, %s)) from refill.account"
        " where account_id = any(%s) and below_trigger and closed_at is null",
        (now, account_ids),
    )[0]
    return count


def refresh_program(connection: Connection, program_id: int, program: Program, now: datetime) -> int:
    """Sets the levels of every open account of a program whose terms have changed; returns how many changed.

    Levels are computed once for each combination of tier and own settings, and written by one statement.
    """
    combinations = connection.execute(
        "select distinct a.tier, p.alert_below, p.recharge_below"
        " from refill.account a left join refill.policy p using (account_id)"
        " where a.program_id = %s and a.closed_at is null",
        (program_id,),
    ).fetchall()
    settled = [
        (tier, alert, recharge, effective_levels(program, tier, PolicySettings(alert, recharge)))
        for tier, alert, recharge in combinations
    ]
    changed = _changed(connection, program_id, settled)
    connection.execute("select refill.lock_accounts(%s)", ([account_id for account_id, _, _ in changed],))
    ids, alerts, recharges = zip(*changed, strict=True) if changed else ((), (), ())
    connection.execute(
        "update refill.account a set alert_below = w.alert_below, recharge_below = w.recharge_below, updated_at = %s"
        " from unnest(%s::bigint[], %s::bigint[], %s::bigint[]) as w(account_id, alert_below, recharge_below)"
        " where a.account_id = w.account_id",
        (now, list(ids), list(alerts), list(recharges)),
    )
    return len(changed)


def _changed(
    connection: Connection, program_id: int, settled: list[tuple[str | None, int | None, int | None, Levels]]
) -> list[tuple[int, int | None, int | None]]:
    return connection.execute(
        "select a.account_id, w.alert_below, w.recharge_below"
        " from refill.account a left join refill.policy p using (account_id)"
        " join unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
        "   as w(tier, own_alert, own_recharge, alert_below, recharge_below)"
        "   on a.tier is not distinct from w.tier and p.alert_below is not distinct from w.own_alert"
        "   and p.recharge_below is not distinct from w.own_recharge"
        " where a.program_id = %s and a.closed_at is null"
        " and (a.alert_below, a.recharge_below) is distinct from (w.alert_below, w.recharge_below)",
        (
            [tier for tier, _, _, _ in settled],
            [alert for _, alert, _, _ in settled],
            [recharge for _, _, recharge, _ in settled],
            [levels.alert_below for _, _, _, levels in settled],
            [levels.recharge_below for _, _, _, levels in settled],
            program_id,
        ),
    ).fetchall()
