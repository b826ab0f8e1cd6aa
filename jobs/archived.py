"""What the ledger says of the months whose entries lie in archives: where each stood, and that it is not all told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from jobs.errors import Refused
from jobs.ledger.database import Connection


class EntriesArchived(Refused):
    """The entries that would tell this are in an archive."""

    code = "entries_archived"


@dataclass(frozen=True, slots=True)
class CarriedMonth:
    """What an archived month did to one account: `entries` took it from `opening` to `closing`, in the program's
    smallest unit; `first_at` and `last_at` are of the first and last of them."""

    month: str
    file: str
    last_entry_id: int
    first_at: datetime
    last_at: datetime
    entries: int
    opening: int
    closing: int


def hold_months(connection: Connection) -> None:
    """Keeps every month where it is, in the ledger or in its archive, until the transaction ends.

    To be called before the transaction's snapshot is taken. Postgres finds the partitions as they are now, the rows as
    they were then: a month that was taken out in between would be seen in neither place.
    """
    connection.execute("lock table refill.entry in access share mode")


def carried_months(connection: Connection, account_id: int, since: datetime, until: datetime) -> list[CarriedMonth]:
    """The archived months of an account with time in common with the period, in the order of their entries."""
    with connection.cursor(row_factory=class_row(CarriedMonth)) as cursor:
        scope = {"account_id": account_id, "since": since, "until": until}
        return cursor.execute(_CARRIED_MONTHS, scope).fetchall()


def check_present(connection: Connection, at: datetime) -> None:
    """Raises EntriesArchived where `at` lies within an archived month."""
    found = connection.execute(
        "select month, file from refill.entry_archive where restored_at is null and %(at)s >= since and %(at)s < until",
        {"at": at},
    ).fetchone()
    if found is not None:
        month, file = found
        raise EntriesArchived(
            f"The entries of {month} are in an archive; `refill archive restore {file}` brings them back.",
            month=month,
            file=file,
        )


_CARRIED_MONTHS: Final = """
select a.month, a.file, l.last_entry_id, m.first_at, m.last_at, l.entries, l.opening, l.closing
from refill.entry_carried_account l
join refill.entry_archive a using (entry_archive_id)
cross join lateral (
    select min(first_at) as first_at, max(last_at) as last_at
    from refill.entry_carried c
    where c.entry_archive_id = a.entry_archive_id
      and ((c.from_side = l.account_id and c.from_side > 0) or (c.to_side = l.account_id and c.to_side > 0))
) m
where l.account_id = %(account_id)s and m.first_at < %(until)s and a.until > %(since)s
order by l.last_entry_id
"""
