"""Gathers what a decision rests on: an account with its policy in effect, the card that pays, attempts and caps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

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
    terms, tier, *cards = fetch_one(connection, _CARDS, {"account_id": account_id})
    bills_manager = tier_of(from_json(terms), tier).bills == "manager"
    card = cards[_CARD_COLUMNS:] if bills_manager else cards[:_CARD_COLUMNS]
    return None if card[0] is None else BilledCard(*card)


def gather(connection: Connection, account_id: int, card: BilledCard | None, now: datetime) -> Subject:
    """The facts of one account, whose lock the caller holds."""
    row = fetch_one(connection, _ACCOUNT, {"account_id": account_id})
    name, terms, tier, balance, closed_at, installation, event_id, pending, open_charge_id, enabled, *levels = row
    program = from_json(terms)
    own = _own_settings(program, enabled, *levels)
    policy = effective_policy(program, tier, own)
    month, day = _caps(connection, account_id, program, policy, now)
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
        month=month,
        day=day,
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


def _caps(
    connection: Connection, account_id: int, program: Program, policy: EffectivePolicy, now: datetime
) -> tuple[Cap, Cap]:
    """For the month and the day that `now` lies in, in the program's time zone: money settled, plus all that is
    open."""
    most_month, most_day = policy.cap_month.value, policy.cap_day.value
    used_month, month_ends_at, used_day, day_ends_at = fetch_one(
        connection, _USED, {"account_id": account_id, "zone": program.time_zone, "now": now}
    )
    return (
        Cap(None if most_month is None else most_month.minor, used_month, month_ends_at),
        Cap(None if most_day is None else most_day.minor, used_day, day_ends_at),
    )


_CARD_COLUMNS: Final = 5

_CARDS = """
select p.terms::text, a.tier, own.fingerprint, own.payment_method, own.customer, own.brand, own.last4,
       managers.fingerprint, managers.payment_method, managers.customer, managers.brand, managers.last4
from refill.account a
join refill.program p using (program_id)
left join refill.card own on own.account_id = a.account_id and own.removed_at is null
left join lateral (
    select c.* from refill.account s join refill.card c on c.account_id = s.account_id and c.removed_at is null
    where s.organisation_id = a.organisation_id and s.program_id = a.program_id and s.is_system and s.closed_at is null
    limit 1
) managers on true
where a.account_id = %(account_id)s
"""

_ACCOUNT = """
select a.name, p.terms::text, a.tier, a.balance, a.closed_at, (select installation_id::text from refill.installation),
       (select w.event_id from refill.watch w where w.account_id = a.account_id), coalesce(l.credits, 0), l.charge_id,
       y.enabled, y.alert_below, y.recharge_below, y.amount, y.target, y.cap_month, y.cap_day
from refill.account a
join refill.program p using (program_id)
left join refill.policy y using (account_id)
left join refill.charge_line l on l.account_id = a.account_id and l.open
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
select coalesce(sum(l.amount_minor) filter (where l.open or c.settled_at >= b.month at time zone %(zone)s), 0)::bigint,
       (b.month + interval '1 month') at time zone %(zone)s,
       coalesce(sum(l.amount_minor) filter (where l.open or c.settled_at >= b.day at time zone %(zone)s), 0)::bigint,
       (b.day + interval '1 day') at time zone %(zone)s
from (
    select date_trunc('month', n.local) as month, date_trunc('day', n.local) as day
    from (select %(now)s::timestamptz at time zone %(zone)s as local) n
) b
left join (refill.charge_line l join refill.charge c using (charge_id)) on l.account_id = %(account_id)s
    and (l.open or (c.state = 'succeeded' and c.settled_at >= b.month at time zone %(zone)s))
group by b.month, b.day
"""
