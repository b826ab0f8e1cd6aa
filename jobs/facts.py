"""Gathers what a decision rests on: an account with its policy in effect, the card that pays, attempts and caps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from jobs.decision import Cap, Facts
from jobs.ledger.database import Connection, fetch_one
from jobs.money import Money
from jobs.policy import EffectivePolicy, PolicySettings, effective_policy, tier_of
from jobs.program import Program, from_json
from jobs.throttle import CardFacts


@dataclass(frozen=True, slots=True)
class BilledCard:
    """The saved card that pays for an account: its own or, in a tier that says so, its manager's."""

    fingerprint: str
    payment_method: str
    customer: str
    brand: str
    last4: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One account under evaluation: its facts, and what a charge needs to know of its card."""

    account_id: int
    account: str
    facts: Facts
    installation: str
    event_id: str | None = None
    fingerprint: str = ""
    payment_method: str = ""
    customer: str = ""
    brand: str = ""
    last4: str = ""


def lock_card(connection: Connection, account_id: int) -> BilledCard | None:
    """The card that pays for the account, its fingerprint locked until the transaction ends.

    The lock is an advisory one, since a fingerprint may have no row yet; it is taken before any account's.
    """
    card = card_to_bill(connection, account_id)
    if card is not None:
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 7355610))", (card.fingerprint,))
    return card


def card_to_bill(connection: Connection, account_id: int) -> BilledCard | None:
    """The card in use of the account, or of its organisation's system account where its tier bills the manager."""
    terms, tier, own = fetch_one(
        connection,
        """
        select p.terms::text, a.tier, a.account_id
        from refill.account a join refill.program p using (program_id) where a.account_id = %s
        """,
        (account_id,),
    )
    query = _MANAGERS_CARD if tier_of(from_json(terms), tier).bills == "manager" else _OWN_CARD
    row = connection.execute(query, (own,)).fetchone()
    return None if row is None else BilledCard(*row)


def gather(connection: Connection, account_id: int, card: BilledCard | None, now: datetime) -> Subject:
    """The facts of one account, whose lock the caller holds."""
    row = fetch_one(connection, _ACCOUNT, {"account_id": account_id})
    name, terms, tier, balance, closed_at, installation, event_id, enabled, *levels = row
    program = from_json(terms)
    own = _own_settings(program, enabled, *levels)
    policy = effective_policy(program, tier, own)
    pending, open_charge_id = _open_credit(connection, account_id)
    facts = Facts(
        program=program,
        balance=balance,
        pending=pending,
        recharge_below=None if closed_at is not None else policy.recharge_below.value,
        enabled=policy.enabled.value,
        amount=policy.amount.value,
        target=policy.target.value,
        bills=policy.bills,
        open_charge_id=open_charge_id,
        card=None if card is None else card_facts(connection, card.fingerprint, now),
        month=_cap(connection, account_id, program, policy, "month", now),
        day=_cap(connection, account_id, program, policy, "day", now),
    )
    if card is None:
        return Subject(account_id, name, facts, installation, event_id)
    return Subject(
        account_id,
        name,
        facts,
        installation,
        event_id,
        card.fingerprint,
        card.payment_method,
        card.customer,
        card.brand,
        card.last4,
    )


def card_facts(connection: Connection, fingerprint: str, now: datetime) -> CardFacts:
    """What Postgres knows of one physical card over all accounts, for the throttle."""
    row = fetch_one(connection, _CARD_FACTS, {"fingerprint": fingerprint, "now": now})
    return CardFacts(fingerprint, *row)


def _own_settings(
    program: Program,
    enabled: bool | None,
    alert_below: int | None,
    recharge_below: int | None,
    amount: int | None,
    target: int | None,
    cap_month: int | None,
    cap_day: int | None,
) -> PolicySettings:
    def money(minor: int | None) -> Money | None:
        return None if minor is None else Money(minor, program.currency)

    return PolicySettings(alert_below, recharge_below, amount, target, money(cap_month), money(cap_day), enabled)


def _open_credit(connection: Connection, account_id: int) -> tuple[int, int | None]:
    row = connection.execute(
        "select credits, charge_id from refill.charge_line where account_id = %s and open", (account_id,)
    ).fetchone()
    return (0, None) if row is None else (int(row[0]), int(row[1]))


def _cap(
    connection: Connection,
    account_id: int,
    program: Program,
    policy: EffectivePolicy,
    period: Literal["month", "day"],
    now: datetime,
) -> Cap:
    """Money settled in the period that `now` lies in, in the program's time zone, plus all that is open."""
    most = (policy.cap_month if period == "month" else policy.cap_day).value
    used, ends_at = fetch_one(
        connection,
        _USED,
        {"account_id": account_id, "zone": program.time_zone, "period": period, "step": f"1 {period}", "now": now},
    )
    return Cap(None if most is None else most.minor, used, ends_at)


_OWN_CARD = """
select fingerprint, payment_method, customer, brand, last4 from refill.card where account_id = %s and removed_at is null
"""

_MANAGERS_CARD = """
select c.fingerprint, c.payment_method, c.customer, c.brand, c.last4
from refill.account a
join refill.account s on s.organisation_id = a.organisation_id and s.program_id = a.program_id
    and s.is_system and s.closed_at is null
join refill.card c on c.account_id = s.account_id and c.removed_at is null
where a.account_id = %s
"""

_ACCOUNT = """
select a.name, p.terms::text, a.tier, a.balance, a.closed_at, (select installation_id::text from refill.installation),
       (select w.event_id from refill.watch w where w.account_id = a.account_id),
       y.enabled, y.alert_below, y.recharge_below, y.amount, y.target, y.cap_month, y.cap_day
from refill.account a join refill.program p using (program_id) left join refill.policy y using (account_id)
where a.account_id = %(account_id)s
"""

_CARD_FACTS = """
select s.stop, s.stop_reason, nullif(s.not_before, '-infinity'),
       min(t.reserved_at) filter (where t.state in ('reserved', 'sent')),
       coalesce(max(t.finished_at) filter (where t.state = 'succeeded'), last.succeeded_at),
       coalesce(max(t.finished_at) filter (where t.state in ('declined', 'needs_customer', 'cancelled')),
                last.failed_at),
       coalesce(array_agg(t.reserved_at order by t.reserved_at) filter (
           where t.reserved_at > %(now)s - interval '24 hours'), '{}'),
       coalesce(array_agg(t.finished_at order by t.finished_at) filter (
           where t.state in ('declined', 'needs_customer') and t.finished_at > %(now)s - interval '24 hours'), '{}'),
       coalesce(array_agg(t.reserved_at order by t.reserved_at) filter (where t.is_reattempt), '{}')
from (select %(fingerprint)s::text as fingerprint) f
left join refill.card_state s on s.fingerprint = f.fingerprint
left join refill.attempt t on t.fingerprint = f.fingerprint and t.state <> 'released'
    and (t.reserved_at > %(now)s - interval '30 days' or t.state in ('reserved', 'sent'))
left join lateral (  -- the last outcome however old it is: it says whether the next attempt repeats a decline
    select case when state = 'succeeded' then finished_at end as succeeded_at,
           case when state <> 'succeeded' then finished_at end as failed_at
    from refill.attempt
    where fingerprint = f.fingerprint and state in ('succeeded', 'declined', 'needs_customer')
    order by reserved_at desc limit 1
) last on true
group by s.stop, s.stop_reason, s.not_before, last.succeeded_at, last.failed_at
"""

_USED = """
select coalesce(sum(l.amount_minor), 0)::bigint, (period.began + %(step)s::interval) at time zone %(zone)s
from (select date_trunc(%(period)s, %(now)s::timestamptz at time zone %(zone)s) as began) period
left join (refill.charge_line l join refill.charge c using (charge_id)) on l.account_id = %(account_id)s
    and (l.open or (c.state = 'succeeded' and c.settled_at >= period.began at time zone %(zone)s))
group by period.began
"""
