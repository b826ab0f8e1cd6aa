"""What came into accounts and went out of them, as one stream of rows: tables now, files made from it later.

A row is one entry seen from its account. A spend that drew on several lots is several rows with one event id, each with
the balance after it. `rows` and the view `refill.entry_history` say the same; the view cannot be read page by page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from typing import Final

from psycopg.rows import class_row

from jobs import account
from jobs.archived import carried_months
from jobs.ledger.database import Connection, fetch_one

PAGE: Final = 1000
COUNTED_MAX: Final = 10_000
ARCHIVED: Final = "archived"

_FIRST: Final = 0
_LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` on and before `until`."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One entry from its account's side: `amount` is signed, in the program's smallest unit.

    A month in an archive is one row of kind `archived`: what its entries came to, without a lot.
    """

    entry_id: int
    at: datetime
    account: str
    kind: str
    amount: int
    balance_after: int
    lot_id: int | None
    charge_id: int | None
    event_id: str | None
    ref: str | None
    memo: str | None
    actor: str | None


@dataclass(frozen=True, slots=True)
class Omitted:
    """How many rows of the period come before those that are shown; `is_more` where counting stopped there."""

    count: int
    is_more: bool


def rows(
    connection: Connection, accounts: Iterable[str], period: Period, limit: int | None = None, page: int = PAGE
) -> Iterator[HistoryRow]:
    """The rows of each account in turn, newest last; of each only the `limit` newest, where one is given.

    Read in pages of `page` rows, so that memory is bounded whatever an account's length. Entries of one account are
    numbered in the order of its postings and never change, so that pages fit together without a transaction held open.
    An archived month that has time in common with the period stands as one row where its entries stood.
    Raises `UnknownAccount`.
    """
    for name in accounts:
        found = account.find(connection, name)
        after = _FIRST if limit is None else _before_newest(connection, found.account_id, period, limit)
        months = _archived(connection, found, period, after)
        yield from merge(months, _pages(connection, found, period, after, page), key=lambda row: row.entry_id)


def omitted(connection: Connection, name: str, period: Period, limit: int, counted_max: int = COUNTED_MAX) -> Omitted:
    """The rows of the period that `rows` with this limit leaves out, counted up to `counted_max`."""
    account_id = account.find(connection, name).account_id
    before = _before_newest(connection, account_id, period, limit)
    (count,) = fetch_one(
        connection, _COUNT, _scope(account_id, period) | {"before": before + 1, "most": counted_max + 1}
    )
    return Omitted(min(count, counted_max), count > counted_max)


def _pages(
    connection: Connection, found: account.Account, period: Period, after: int, size: int
) -> Iterator[HistoryRow]:
    while True:
        with connection.cursor(row_factory=class_row(HistoryRow)) as cursor:
            scope = _scope(found.account_id, period) | {"account": found.name, "after": after, "page": size}
            page = cursor.execute(_NEXT_PAGE, scope).fetchall()
        yield from page
        if len(page) < size:
            return
        after = page[-1].entry_id


def _archived(connection: Connection, found: account.Account, period: Period, after: int) -> Iterator[HistoryRow]:
    for one in carried_months(connection, found.account_id, period.since, period.until):
        if one.last_entry_id > after:
            yield HistoryRow(
                entry_id=one.last_entry_id,
                at=one.last_at,
                account=found.name,
                kind=ARCHIVED,
                amount=one.closing - one.opening,
                balance_after=one.closing,
                lot_id=None,
                charge_id=None,
                event_id=None,
                ref=None,
                memo=f"{one.entries:,} entries of {one.month} are in {one.file}; `refill archive restore` shows them",
                actor=None,
            )


def _before_newest(connection: Connection, account_id: int, period: Period, limit: int) -> int:
    """The id of the newest entry that is not among the `limit` newest of the period; 0 where there is none."""
    newest = _scope(account_id, period) | {"limit": limit, "most": limit + 1}
    row = connection.execute(_BEFORE_NEWEST, newest).fetchone()
    return _FIRST if row is None else int(row[0])


def _scope(account_id: int, period: Period) -> dict[str, object]:
    return {"account_id": account_id, "since": period.since, "until": period.until, "before": _LAST, "after": _FIRST}


# Each side is read by its own index, in order and no further than asked; ordering only their union would sort it all.
_SPAN: Final = "and at >= %(since)s and at < %(until)s"

_NEXT_PAGE: Final = f"""
select e.entry_id, e.at, %(account)s::text as account, e.kind::text, e.amount, e.balance_after, e.lot_id, e.charge_id,
       e.event_id, s.ref, coalesce(s.memo, e.memo) as memo, coalesce(s.actor, e.actor) as actor
from (
    (select entry_id, at, kind, program_id, -amount as amount, from_balance as balance_after, lot_id, charge_id,
            event_id, memo, actor
     from refill.entry where from_side = %(account_id)s and from_side > 0 and entry_id > %(after)s {_SPAN}
     order by from_side, entry_id limit %(page)s)
    union all
    (select entry_id, at, kind, program_id, amount, to_balance, lot_id, charge_id, event_id, memo, actor
     from refill.entry where to_side = %(account_id)s and to_side > 0 and entry_id > %(after)s {_SPAN}
     order by to_side, entry_id limit %(page)s)
    order by entry_id limit %(page)s
) e
left join refill.spend_event s on e.kind = 'spend' and s.event_id = e.event_id and s.program_id = e.program_id
order by e.entry_id
"""  # noqa: S608 - a constant of ours

_NEWEST_IDS: Final = f"""
    (select entry_id from refill.entry
     where from_side = %(account_id)s and from_side > 0 and entry_id < %(before)s {_SPAN}
     order by from_side desc, entry_id desc limit %(most)s)
    union all
    (select entry_id from refill.entry
     where to_side = %(account_id)s and to_side > 0 and entry_id < %(before)s {_SPAN}
     order by to_side desc, entry_id desc limit %(most)s)
    order by entry_id desc limit %(most)s
"""  # noqa: S608 - a constant of ours

_BEFORE_NEWEST: Final = f"select entry_id from ({_NEWEST_IDS}) e order by entry_id desc offset %(limit)s"  # noqa: S608

_COUNT: Final = f"select count(*) from ({_NEWEST_IDS}) e"  # noqa: S608
