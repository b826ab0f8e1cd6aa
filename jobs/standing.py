"""The balance of an account with its lots, as it stands or as it stood at any moment: never from dead credit.

As it stands, lots say what is left in them. As it stood, their entries up to that moment say it, so that the answer is
what the books show and not what became of the lots since.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg.rows import class_row

from jobs.archived import check_present
from jobs.ledger.database import Connection, fetch_one

LOTS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class LotLine:
    """A lot with credit in it; `expires_at` None where it never dies."""

    lot_id: int
    lot_class: str
    remaining: int
    granted: int
    effective_at: datetime
    expires_at: datetime | None
    charge_id: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Credits in the program's smallest unit; `lots` are the next to be drawn, in that order, of `lots_count`.

    `pending` is the credit of the charge that is open.
    """

    balance: int
    pending: int
    lots_count: int
    lots: tuple[LotLine, ...]

    @property
    def projected(self) -> int:
        """The balance once the open charge has settled."""
        return self.balance + self.pending


def standing(connection: Connection, account_id: int, now: datetime) -> Standing:
    """The account as it stands at `now`, the present."""
    (dies_at,) = fetch_one(
        connection,
        "select nullif(idle_expires_at, 'infinity') from refill.account where account_id = %s",
        (account_id,),
    )
    return _standing(connection, account_id, now, dies_at, is_past=False)


def standing_at(connection: Connection, account_id: int, at: datetime) -> Standing:
    """The account as it stood at a moment in the past, from its entries.

    Raises EntriesArchived for a moment within an archived month, of which only the sums are here.
    """
    check_present(connection, at)
    return _standing(connection, account_id, at, _idle_expiry(connection, account_id, at), is_past=True)


def _standing(
    connection: Connection, account_id: int, at: datetime, dies_at: datetime | None, *, is_past: bool
) -> Standing:
    scope = {"account_id": account_id, "at": at, "dies_at": dies_at, "shown": LOTS_SHOWN}
    held = _HELD_BY_ENTRIES if is_past else _HELD_BY_LOTS
    balance, count = fetch_one(connection, _BALANCE + held + _ALIVE, scope)
    with connection.cursor(row_factory=class_row(LotLine)) as cursor:
        lots = cursor.execute(_LOTS + held + _ALIVE + _DRAW_ORDER, scope).fetchall()
    (pending,) = fetch_one(connection, _PENDING, scope)
    return Standing(balance, pending, count, tuple(lots))


def _idle_expiry(connection: Connection, account_id: int, at: datetime) -> datetime | None:
    """When all lots of an account die that stays silent from `at` on; None where its program knows no such expiry.

    A spend or a purchase is activity. A gift is none, but starts a new term where the account had been silent too long.
    """
    days, active_at = fetch_one(connection, _ACTIVITY, {"account_id": account_id, "at": at})
    if days is None:
        return None
    term = timedelta(days=days)
    silent_since = at - term if active_at is None else active_at + term
    if silent_since > at:
        return silent_since
    (gift_at,) = fetch_one(
        connection, _GIFT, {"account_id": account_id, "at": at, "since": max(at - term, silent_since)}
    )
    return at if gift_at is None else gift_at + term


_BALANCE: Final = "select coalesce(sum(held.remaining), 0)::bigint, count(*) "

_LOTS: Final = """
select l.lot_id, l.class::text as lot_class, held.remaining, l.granted, l.effective_at, l.charge_id,
       nullif(least(l.expires_at, %(dies_at)s::timestamptz), 'infinity') as expires_at
"""

_HELD_BY_LOTS: Final = """
from (select lot_id, remaining from refill.lot where account_id = %(account_id)s and open) held
"""

_HELD_BY_ENTRIES: Final = """
from (
    select lot_id, sum(amount)::bigint as remaining from (
        select lot_id, amount from refill.movement where to_side = %(account_id)s and to_side > 0 and last_at <= %(at)s
        union all
        select lot_id, -amount from refill.movement
        where from_side = %(account_id)s and from_side > 0 and last_at <= %(at)s
    ) moved group by lot_id having sum(amount) > 0
) held
"""

_ALIVE: Final = """
join refill.lot l using (lot_id)
where l.effective_at <= %(at)s and least(l.expires_at, %(dies_at)s::timestamptz) > %(at)s
"""

_DRAW_ORDER: Final = "order by l.expires_at, l.class, l.effective_at, l.lot_id limit %(shown)s"

_PENDING: Final = """
select coalesce(sum(l.credits), 0)::bigint from refill.charge_line l join refill.charge c using (charge_id)
where l.account_id = %(account_id)s and c.opened_at <= %(at)s and (c.ended_at is null or c.ended_at > %(at)s)
"""

_ACTIVITY: Final = """
select case p.expiry_kind when 'inactivity' then p.expiry_days end, (
    select max(last_at) from (
        select last_at from refill.movement
        where from_side = %(account_id)s and from_side > 0 and last_at <= %(at)s and kind = 'spend'
        union all
        select last_at from refill.movement
        where to_side = %(account_id)s and to_side > 0 and last_at <= %(at)s and kind in ('purchase', 'recharge')
    ) active)
from refill.account a join refill.program p using (program_id) where a.account_id = %(account_id)s
"""

_GIFT: Final = """
select min(first_at) from refill.movement
where to_side = %(account_id)s and to_side > 0 and kind = 'promotion' and first_at >= %(since)s and first_at <= %(at)s
"""
