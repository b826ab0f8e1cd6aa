"""Accounts that are read a lot: one with very many entries over a year, one with very many open lots."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from jobs.ledger.database import Connection, connect, fetch_one

READER: Final = "reader"  # its entries are spends of one credit each
HOLDER: Final = "holder"  # its lots hold one credit each
HISTORY: Final = timedelta(days=360)

_OPEN: Final = """
    insert into refill.account (program_id, organisation_id, name)
    select program_id, organisation_id, %s from refill.program p, refill.organisation where p.name = 'mail'
    returning account_id
"""
_GRANT: Final = """
    select refill.post_grants(array[%s]::bigint[], array[%s]::bigint[], array['infinity']::timestamptz[],
                              array[0]::bigint[], 'promotion', null, null, null, 'bench', now() - %s)
"""
# As post_spend would have written it, one event at a time over a year.
_SPEND: Final = """
    with spent as (
        select 'reader-' || n as event_id, a.account_id, a.program_id, l.lot_id, %(entries)s + 1 - n as balance_after,
               now() - %(history)s + n * %(history)s / (%(entries)s + 1) as at
        from generate_series(1, %(entries)s) n, refill.account a join refill.lot l using (account_id)
        where a.name = 'reader'
    ), kept as (
        insert into refill.spend_event
            (event_id, program_id, account_id, amount, outcome, balance_after, shortfall, posted_at)
        select event_id, program_id, account_id, 1, 'accepted', balance_after, 0, at from spent
    ), booked as (
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance, event_id)
        select at, 'spend', program_id, account_id, refill.own_side(program_id, 'revenue'), 1, lot_id, balance_after,
               event_id
        from spent order by at
    ), drawn as (
        update refill.lot l set remaining = 1
        from refill.account a where a.account_id = l.account_id and a.name = 'reader'
    )
    update refill.account set balance = 1, updated_at = now() where name = 'reader'
"""


# A lot for each credit, as so many grants would have left it.
_LOTS: Final = """
    with lots as (
        insert into refill.lot (account_id, class, granted, remaining, currency, effective_at, expires_at)
        select account_id, 'promotional', 1, 1, 'USD', now() - %(history)s, now() + n * interval '1 minute'
        from refill.account, generate_series(2, %(lots)s) n where name = 'holder'
        returning lot_id, account_id
    ), booked as (
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, to_balance)
        select now(), 'promotion', program_id, refill.own_side(program_id, 'promotion'), account_id, 1, lot_id,
               row_number() over (order by lot_id) + 1
        from lots join refill.account using (account_id) order by lot_id
    )
    update refill.account set balance = %(lots)s, expires_next = now() where name = 'holder'
"""


def fill_readers(url: str, entries: int, lots: int) -> int:
    """Opens READER, which has spent all but one credit, one at a time, and HOLDER, which has a lot for each credit; the
    credits that they hold."""
    with connect(url) as connection:
        connection.execute("select refill.ensure_entry_partitions(13, now() - %s)", (HISTORY,))
        _open(connection, READER, entries + 1)
        connection.execute(_SPEND, {"entries": entries, "history": HISTORY})
        _open(connection, HOLDER, 1)
        connection.execute(_LOTS, {"lots": lots, "history": HISTORY})
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")
    return 1 + lots


def _open(connection: Connection, name: str, amount: int) -> None:
    account_id = fetch_one(connection, _OPEN, (name,))[0]
    connection.execute(_GRANT, (account_id, amount, HISTORY))
