"""Dead credit becomes breakage: the sweep over all accounts.

A balance never shows dead credit, swept or not, and every posting books what is dead on the accounts that it
touches. The sweep is for accounts that nothing touches, so that the books are complete. It works in pages, each a
transaction of its own under the account lock, so that spending waits for one page at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
import structlog

from jobs.ledger.database import Connection, fetch_one

log = structlog.get_logger()

PAGE: Final = 1_000

# Dead lots come from the index of open lots by expiry, soonest first. Accounts of programs with expiry by inactivity
# have no such index on purpose (each spend moves the moment, and the index would make every spend dearer); the page
# reads their accounts.
_DUE: Final = """
    select distinct account_id from (
        (select l.account_id from refill.lot l
         where l.open and l.expires_at < 'infinity' and l.expires_at <= coalesce(%(now)s, clock_timestamp())
           and l.account_id <> all(%(passed_over)s)
         order by l.expires_at limit %(page)s)
        union all
        (select a.account_id from refill.account a join refill.program p using (program_id)
         where p.expiry_kind = 'inactivity' and a.balance > 0
           and a.idle_expires_at <= coalesce(%(now)s, clock_timestamp()) and a.account_id <> all(%(passed_over)s)
         limit %(page)s)
    ) due order by account_id limit %(page)s
"""


@dataclass(frozen=True, slots=True)
class Expired:
    """What a sweep booked. ``failed`` accounts are unchanged; each has its line in the log."""

    lots: int = 0
    credits: int = 0
    accounts: int = 0
    failed: int = 0

    def __add__(self, other: Expired) -> Expired:
        return Expired(
            self.lots + other.lots,
            self.credits + other.credits,
            self.accounts + other.accounts,
            self.failed + other.failed,
        )


def sweep(connection: Connection, page: int = PAGE, now: datetime | None = None) -> Expired:
    """Books the expiry of all credit that is dead at ``now``, ``page`` accounts at a time.

    An account whose expiry cannot be booked is logged and passed over. Raises what the driver raises where the
    database is lost; the pages until then are booked.
    """
    total = Expired()
    passed_over: list[int] = []
    while account_ids := _due(connection, page, passed_over, now):
        booked, failed = _book_page(connection, account_ids, now)
        passed_over += failed
        total += booked
    if total.lots:
        log.info("credit.expired", lots=total.lots, credits=total.credits, accounts=total.accounts)
    return total


def _due(connection: Connection, page: int, passed_over: Sequence[int], now: datetime | None) -> list[int]:
    wanted = {"now": now, "page": page, "passed_over": list(passed_over)}
    return [row[0] for row in connection.execute(_DUE, wanted).fetchall()]


def _book_page(connection: Connection, account_ids: Sequence[int], now: datetime | None) -> tuple[Expired, list[int]]:
    """The page at once; where that fails, account by account, so that one bad account holds back no other."""
    try:
        return _book(connection, account_ids, now), []
    except psycopg.Error as error:
        if connection.closed:
            raise
        if len(account_ids) == 1:
            log.error("expiry.failed", account_id=account_ids[0], error=str(error).strip())
            return Expired(failed=1), list(account_ids)
    pages = [_book_page(connection, [account_id], now) for account_id in account_ids]
    return sum((booked for booked, _ in pages), Expired()), [failed for _, ids in pages for failed in ids]


def _book(connection: Connection, account_ids: Sequence[int], now: datetime | None) -> Expired:
    """Lock, then post: the time of booking is read after the lock is held, so that no entry is older than the one
    before."""
    wanted = {"ids": list(account_ids), "now": now}
    with connection.transaction():
        connection.execute("select refill.lock_accounts(%(ids)s)", wanted)
        booked = fetch_one(
            connection,
            "select lots, credits from refill.expire_due(%(ids)s, coalesce(%(now)s, clock_timestamp()))",
            wanted,
        )
    return Expired(int(booked[0]), int(booked[1]), len(account_ids))
