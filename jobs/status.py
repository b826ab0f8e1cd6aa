"""How refill is, as far as Postgres knows: who leads, what ran, what waits, and what waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString, TypeVar

from psycopg.rows import class_row

from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.slots import LEADER_LOCK, LEADERSHIP

SHOWN_MAX: Final = 20

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Leader:
    """The scheduler that was elected last; ``is_leading`` where its lock is held now."""

    name: str
    since: datetime
    is_leading: bool


@dataclass(frozen=True, slots=True)
class JobRun:
    """The last run of a job: ``claimed_at`` when it was triggered, ``finished_at`` of the last one that ended."""

    job: str
    claimed_at: datetime | None
    finished_at: datetime | None
    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Accounts below their trigger with this verdict; ``next_at`` is when the first of them is looked at again."""

    verdict: str
    accounts: int
    next_at: datetime


@dataclass(frozen=True, slots=True)
class OpenCharges:
    """Charges in one open state."""

    state: str
    count: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class UnclearCharge:
    """A charge whose outcome is not known (``unknown``) or that only a person can clear up (``needs_review``)."""

    charge_id: int
    state: str
    accounts: str
    amount_minor: int
    currency: str
    payment_intent: str | None
    detail: str | None
    opened_at: datetime
    next_check_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoppedCard:
    """A card that is not charged until somebody acts, where an account would use it."""

    fingerprint: str
    stop: str
    stop_reason: str
    stopped_at: datetime
    accounts: str


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages by what became of them. ``due_since`` is the time of the longest waiting one that is due."""

    pending: int
    due_since: datetime | None
    poisoned: int
    poisoned_24h: int
    unaddressed: int


@dataclass(frozen=True, slots=True)
class Events:
    """What happened and is not in the stream yet."""

    unpublished: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class EntryMonths:
    """The partitions of entries: `until` is where those that follow one another from this month on end, None where it
    has none; `has_strays` where the default one holds entries."""

    until: datetime | None
    has_strays: bool


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """All of it, at ``now`` of the database's clock."""

    now: datetime
    leader: Leader | None
    jobs: Sequence[JobRun]
    quarantined: int
    quarantined_24h: int
    waiting: Sequence[Waiting]
    charges: Sequence[OpenCharges]
    unclear: Sequence[UnclearCharge]
    cards: Sequence[StoppedCard]
    messages: Messages
    events: Events
    entry_months: EntryMonths


def look(connection: Connection, jobs: Sequence[str]) -> LedgerStatus:
    """The state of the ledger now; ``jobs`` are the names of the scheduled jobs. Changes nothing."""
    quarantined, quarantined_24h = fetch_one(
        connection, "select count(*), count(*) filter (where at > now() - interval '24 hours') from refill.quarantine"
    )
    return LedgerStatus(
        now=database_now(connection),
        leader=next(iter(_rows(connection, Leader, _LEADER, (LEADER_LOCK, LEADERSHIP))), None),
        jobs=_rows(connection, JobRun, _JOBS, (list(jobs),)),
        quarantined=quarantined,
        quarantined_24h=quarantined_24h,
        waiting=_rows(connection, Waiting, _WAITING),
        charges=_rows(connection, OpenCharges, _CHARGES),
        unclear=_rows(connection, UnclearCharge, _UNCLEAR, (SHOWN_MAX,)),
        cards=_rows(connection, StoppedCard, _CARDS, (SHOWN_MAX,)),
        messages=_rows(connection, Messages, _MESSAGES)[0],
        events=_rows(connection, Events, _EVENTS)[0],
        entry_months=_rows(connection, EntryMonths, _ENTRY_MONTHS)[0],
    )


def _rows(
    connection: Connection, kind: type[Row], query: LiteralString, params: Sequence[object] = ()
) -> Sequence[Row]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query, params).fetchall()


_LEADER: Final = """
    select s.claimed_by as name, s.claimed_at as since,
           exists (select from pg_locks l join pg_database d on d.oid = l.database
                   where l.locktype = 'advisory' and d.datname = current_database() and l.granted
                     and l.classid = 0 and l.objid = %s and l.objsubid = 1) as is_leading
    from refill.job_slot s where s.job = %s order by s.slot desc limit 1
"""
_JOBS: Final = """
    select j.job, last.claimed_at, done.finished_at, done.result
    from unnest(%s::text[]) with ordinality as j(job, place)
    left join lateral (
        select claimed_at from refill.job_slot s where s.job = j.job order by slot desc limit 1
    ) last on true
    left join lateral (
        select finished_at, result from refill.job_slot s
        where s.job = j.job and finished_at is not null order by slot desc limit 1
    ) done on true
    order by j.place
"""
_WAITING: Final = """
    select coalesce(verdict::text, 'not_evaluated') as verdict, count(*) as accounts, min(due_at) as next_at
    from refill.watch group by verdict order by accounts desc
"""
_CHARGES: Final = """
    select state::text, count(*) as count, min(opened_at) as oldest_at
    from refill.charge
    where state in ('reserved', 'created', 'confirming', 'processing', 'unknown', 'needs_review')
    group by state order by state
"""
_UNCLEAR: Final = """
    select c.charge_id, c.state::text, c.amount_minor, c.currency, c.payment_intent, c.detail, c.opened_at,
           nullif(c.next_check_at, 'infinity') as next_check_at,
           (select string_agg(a.name, ', ' order by l.line) from refill.charge_line l join refill.account a using
           (account_id)
            where l.charge_id = c.charge_id) as accounts
    from refill.charge c where c.state in ('unknown', 'needs_review') order by c.opened_at limit %s
"""
_CARDS: Final = """
    select s.fingerprint, s.stop, s.stop_reason, s.stopped_at, string_agg(a.name, ', ' order by a.name) as accounts
    from refill.card_state s
    join refill.card c on c.fingerprint = s.fingerprint and c.removed_at is null
    join refill.account a on a.account_id = c.account_id and a.closed_at is null
    where s.stop is not null
    group by s.fingerprint order by s.stopped_at desc limit %s
"""
_MESSAGES: Final = """
    select count(*) filter (where state = 'pending') as pending,
           min(next_at) filter (where state = 'pending' and next_at <= now()) as due_since,
           count(*) filter (where state = 'poisoned') as poisoned,
           count(*) filter (where state = 'poisoned' and next_at > now() - interval '24 hours') as poisoned_24h,
           count(*) filter (where state = 'unaddressed') as unaddressed
    from refill.message where state <> 'sent'
"""
_EVENTS: Final = """
    with cursor as (
        select coalesce((select value from refill.cursor where name = 'events_published'), 0) as seq
    ), waiting as (
        select at from refill.event_log where seq is null
        union all
        select e.at from refill.event_log e, cursor where e.seq > cursor.seq
    )
    select count(*) as unpublished, min(at) as oldest_at from waiting
"""
_ENTRY_MONTHS: Final = """
    with recursive ahead as (
        select until from refill.entry_partition where now() >= since and now() < until
        union all
        select p.until from ahead a join refill.entry_partition p on p.since = a.until
    )
    select max(until) as until, exists (select from refill.entry_default) as has_strays from ahead
"""
