"""Takes an old month of entries out of the ledger into a file, and puts it back.

    in the ledger ──> file written, synced, read back ──> one commit: sums kept, partition dropped ──> in the file
    in the file ──> file is the one that was written ──> one commit: rows loaded, sums forgotten ──> in the ledger

Killed at any moment, every entry counts once: before the commit the partition is as it was and a file that lies there
is only a copy; after it the file holds what the ledger's sums say, and running it again says that it is done. Spend
events stay in the ledger for ever, so that an event of an archived month is known and a replay gets its first outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, LiteralString

import structlog
from psycopg import sql
from psycopg.rows import class_row

from jobs import archive_file
from jobs.archive_file import ArchiveDamaged, Content, Progress
from jobs.audit import AuditFailed, audit
from jobs.errors import Refused
from jobs.ledger.database import Connection, fetch_one
from jobs.partition import TRY_FOR_S, patiently

log = structlog.get_logger()

ARCHIVE_LOCK: Final = 7_355_614  # any number that only an archiving or restoring transaction takes


class UnknownMonth(Refused):
    """The ledger has no entries of this month."""

    code = "unknown_month"


class ArchiveTooRecent(Refused):
    """The month is younger than what the ledger keeps."""

    code = "archive_too_recent"


class AlreadyArchived(Refused):
    """The month is in an archive."""

    code = "already_archived"


class NotArchived(Refused):
    """The file is no archive of this ledger, or its month was restored."""

    code = "not_archived"


class ArchiveMismatch(Refused):
    """The file is not the one that was archived."""

    code = "archive_mismatch"


class ArchiveBusy(Refused):
    """Another archive or restore is under way."""

    code = "archive_busy"


class EntriesInterleaved(Refused):
    """Entries of another month lie between those of this one: their sum would not say where each account stood."""

    code = "entries_interleaved"


@dataclass(frozen=True, slots=True)
class Archive:
    """One archived month: `credits` is the sum of the amounts of its `rows` entries.

    `since` is None where it holds all before `until`; `restored_at` is None where the entries are in the file only.
    """

    entry_archive_id: int
    month: str
    since: datetime | None
    until: datetime
    file: str
    sha256: str
    bytes: int
    rows: int
    credits: int
    archived_at: datetime
    archived_by: str
    restored_at: datetime | None
    restored_by: str | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What to archive, where to and for whom. `keep_months` whole months before the present one stay in the ledger,
    unless it `is_forced`: then all that are over may go."""

    month: str
    directory: Path
    by: str
    keep_months: int
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class _Partition:
    name: str
    month: str
    until: datetime


def archives(connection: Connection) -> Sequence[Archive]:
    """Every month that was ever archived, the oldest first."""
    with connection.cursor(row_factory=class_row(Archive)) as cursor:
        return cursor.execute(_ARCHIVES + " order by month, entry_archive_id").fetchall()


def entries_of(connection: Connection, month: str) -> int:
    """How many entries a month has, as the planner guesses: enough for a progress bar.

    Raises UnknownMonth and AlreadyArchived.
    """
    name = _partition(connection, month).name
    (guess,) = fetch_one(
        connection, "select greatest(reltuples, 0)::bigint from pg_class where oid = %s::regclass", (f"refill.{name}",)
    )
    return int(guess)


def create(
    connection: Connection, wish: Wish, progress: Progress = lambda count: None, try_for_s: float = TRY_FOR_S
) -> Archive:
    """Writes a month into a file of the directory, then takes it out of the ledger.

    Raises UnknownMonth, AlreadyArchived, ArchiveTooRecent, EntriesInterleaved, ArchiveBusy, AuditFailed where the books
    are wrong, ArchiveUnwritable, ArchiveDamaged and EntriesBusy; then the ledger is as it was.
    """
    _check_age(connection, _partition(connection, wish.month), wish)
    _check_books(connection)
    with connection.transaction():
        _claim(connection)
        partition = _partition(connection, wish.month)  # another run may have taken it out since
        # Nobody posts into a month that is over; this makes it certain. Reading goes on.
        connection.execute(_named("lock table refill.{} in share row exclusive mode", partition.name))
        content = _content(connection, partition.name)
        _check_order(connection, partition.name, content)
        path = wish.directory / f"refill-entries-{partition.month}-{_installation(connection)}.csv.gz"
        archive_file.write(path, _export(connection, partition.name), content, progress)
        archive = _keep_sums(connection, partition, path, content, wish.by)
        patiently(connection, lambda: _drop(connection, partition.name), try_for_s)
    log.info(
        "archive.created", month=archive.month, path=str(path), sha256=archive.sha256, count=archive.rows, actor=wish.by
    )
    return archive


def restore(
    connection: Connection, path: Path, by: str, progress: Progress = lambda count: None, try_for_s: float = TRY_FOR_S
) -> Archive:
    """Puts the month that a file holds back into the ledger.

    Raises NotArchived, ArchiveMismatch, ArchiveDamaged, ArchiveBusy and EntriesBusy; then the ledger is as it was.
    """
    sha256 = archive_file.digest(path)
    with connection.transaction():
        _claim(connection)
        archive = _archive_of(connection, path, sha256)
        name = fetch_one(connection, "select refill.entry_partition_name(%s - interval '1 day')", (archive.until,))[0]
        connection.execute("select refill.create_entries(%s)", (name,))
        _load(connection, name, path, progress)
        _check_loaded(connection, name, archive)
        span = (name, archive.since, archive.until)
        connection.execute("select refill.prepare_entries(%s, coalesce(%s, timestamptz '-infinity'), %s)", span)
        connection.execute("select refill.drop_carried(%s, %s)", (archive.entry_archive_id, by))
        patiently(connection, lambda: _attach(connection, span), try_for_s)
    connection.execute(_named("analyze refill.{}", name))
    log.info("archive.restored", month=archive.month, path=str(path), count=archive.rows, actor=by)
    return _archive(connection, archive.entry_archive_id)


def _partition(connection: Connection, month: str) -> _Partition:
    with connection.cursor(row_factory=class_row(_Partition)) as cursor:
        found = cursor.execute(_PARTITION, {"month": month}).fetchone()
    if found is not None:
        return found
    gone = connection.execute(
        "select month, file from refill.entry_archive where restored_at is null"
        " and (%s || '-01 00:00Z')::timestamptz >= since and (%s || '-01 00:00Z')::timestamptz < until",
        (month, month),
    ).fetchone()
    if gone is not None:
        raise AlreadyArchived(f"The entries of {month} are in {gone[1]} already.", month=gone[0], file=gone[1])
    raise UnknownMonth(_why_unknown(connection, month))


def _why_unknown(connection: Connection, month: str) -> str:
    whole = connection.execute(_COVERED, {"month": month}).fetchone()
    if whole is None:
        return f"The ledger has no entries of {month}."
    return f"The entries of {month} lie in one partition with all before {whole[0]} and with it: archive {whole[0]}."


def _check_age(connection: Connection, partition: _Partition, wish: Wish) -> None:
    is_over, is_old = fetch_one(
        connection,
        "select %(until)s <= now() - interval '1 day',"
        " (%(until)s at time zone 'UTC') <= date_trunc('month', now() at time zone 'UTC')"
        " - make_interval(months => %(keep)s)",
        {"until": partition.until, "keep": wish.keep_months},
    )
    if not is_over:
        raise ArchiveTooRecent(f"{wish.month} has not been over for a day: it may still be posted to.")
    if not is_old and not wish.is_forced:
        raise ArchiveTooRecent(
            f"{wish.month} is among the {wish.keep_months} months that are kept (REFILL_ENTRY_KEEP_MONTHS);"
            " --force archives it all the same."
        )


def _check_books(connection: Connection) -> None:
    findings = audit(connection)
    if findings:
        broken = sorted({finding.check.code for finding in findings})
        raise AuditFailed(
            f"The books are wrong: {', '.join(broken)}. Nothing is archived until they are right.", checks=broken
        )


def _claim(connection: Connection) -> None:
    if not fetch_one(connection, "select pg_try_advisory_xact_lock(%s)", (ARCHIVE_LOCK,))[0]:
        raise ArchiveBusy


def _installation(connection: Connection) -> str:
    installation: str = fetch_one(connection, "select left(installation_id::text, 8) from refill.installation")[0]
    return installation


def _content(connection: Connection, name: str) -> Content:
    rows, credits_sum, first, last = connection.execute(_named(_CONTENT, name)).fetchall()[0]
    return Content(rows, int(credits_sum), first, last)


def _check_order(connection: Connection, name: str, content: Content) -> None:
    """Each account's entries of the month must follow one another, with none of another month between them."""
    between = connection.execute(
        _named(_INTERLEAVED, name), {"first": content.first_entry_id, "last": content.last_entry_id, "name": name}
    ).fetchone()
    if between is not None:
        raise EntriesInterleaved(f"Entry {between[0]} of side {between[1]} is of another month than its neighbours.")


def _export(connection: Connection, name: str) -> Iterator[bytes]:
    connection.execute("set local synchronize_seqscans = off")  # the same rows in the same order each time
    connection.execute("set local datestyle = 'ISO, MDY'")
    query = _named("copy (select * from refill.{}) to stdout (format csv, header)", name)
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        yield from (bytes(chunk) for chunk in copy)


def _keep_sums(connection: Connection, partition: _Partition, path: Path, content: Content, by: str) -> Archive:
    (archive_id,) = fetch_one(
        connection,
        "insert into refill.entry_archive (month, since, until, file, sha256, bytes, rows, credits, archived_by)"
        " select %s, since, until, %s, %s, %s, %s, %s, %s from refill.entry_partition where name = %s"
        " returning entry_archive_id",
        (
            partition.month,
            path.name,
            archive_file.digest(path),
            path.stat().st_size,
            content.rows,
            content.credits,
            by,
            partition.name,
        ),
    )
    connection.execute("select refill.carry_entries(%s, %s)", (archive_id, partition.name))
    return _archive(connection, archive_id)


def _drop(connection: Connection, name: str) -> None:
    connection.execute("select refill.drop_entries(%s)", (name,))


def _archive(connection: Connection, archive_id: int) -> Archive:
    with connection.cursor(row_factory=class_row(Archive)) as cursor:
        return cursor.execute(_ARCHIVES + " where entry_archive_id = %s", (archive_id,)).fetchall()[0]


def _archive_of(connection: Connection, path: Path, sha256: str) -> Archive:
    """The archive that this file is. Raises ArchiveMismatch where only its name is that of one, else NotArchived."""
    known = [one for one in archives(connection) if sha256 == one.sha256 or path.name == one.file]
    archived = [one for one in known if one.restored_at is None]
    found = next((one for one in archived if one.sha256 == sha256), None)
    if found is not None:
        return found
    if archived:
        raise ArchiveMismatch(
            f"{path} is not the file that was archived for {archived[0].month}:"
            f" its sha256 is {sha256}, not {archived[0].sha256}."
        )
    if known:
        raise NotArchived(f"{known[-1].month} was restored at {known[-1].restored_at:%Y-%m-%d %H:%M} UTC.")
    raise NotArchived(f"{path} is no archive of this ledger.")


def _load(connection: Connection, name: str, path: Path, progress: Progress) -> None:
    connection.execute("set local datestyle = 'ISO, MDY'")
    # By name: the file may be older than a column that entries have by now.
    query = sql.SQL("copy refill.{} ({}) from stdin (format csv, header match)").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, archive_file.columns(path)))
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for chunk in archive_file.chunks(path):
            copy.write(chunk)
            progress(chunk.count(b"\n"))


def _check_loaded(connection: Connection, name: str, archive: Archive) -> None:
    found = _content(connection, name)
    if (found.rows, found.credits) != (archive.rows, archive.credits):
        raise ArchiveDamaged(
            f"The file holds {found.rows} entries of {found.credits} credits, not {archive.rows} of {archive.credits}."
        )


def _attach(connection: Connection, span: tuple[object, ...]) -> None:
    connection.execute("select refill.attach_entries(%s, coalesce(%s, timestamptz '-infinity'), %s)", span)
    connection.execute(_named("alter table refill.{} drop constraint entry_span", str(span[0])))


def _named(query: LiteralString, name: str) -> sql.Composed:
    return sql.SQL(query).format(sql.Identifier(name))


_ARCHIVES: Final = """
select entry_archive_id, month, nullif(since, '-infinity') as since, until, file, sha256, bytes, rows, credits::bigint,
       archived_at, archived_by, restored_at, restored_by
from refill.entry_archive
"""

# A partition goes by its last month: the first one of a ledger older than partitions holds all before it as well.
_PARTITION: Final = """
select name, to_char((until at time zone 'UTC') - interval '1 day', 'YYYY-MM') as month, until
from refill.entry_partition
where to_char((until at time zone 'UTC') - interval '1 day', 'YYYY-MM') = %(month)s
"""

_COVERED: Final = """
select to_char((until at time zone 'UTC') - interval '1 day', 'YYYY-MM') from refill.entry_partition
where (%(month)s || '-01 00:00Z')::timestamptz >= since and (%(month)s || '-01 00:00Z')::timestamptz < until
"""

_CONTENT: Final = """
select count(*), coalesce(sum(amount), 0), coalesce(min(entry_id), 0), coalesce(max(entry_id), 0) from refill.{}
"""

_INTERLEAVED: Final = """
with moved as (
    select to_side as side, entry_id, amount, to_balance as balance from refill.{0} where to_side > 0
    union all
    select from_side, entry_id, -amount, from_balance from refill.{0} where from_side > 0
), spans as (
    select side, min(entry_id) as first, max(entry_id) as last from moved group by side
), others as (
    select to_side as side, entry_id from refill.entry
    where to_side > 0 and entry_id between %(first)s and %(last)s and tableoid <> ('refill.' || %(name)s)::regclass
    union all
    select from_side, entry_id from refill.entry
    where from_side > 0 and entry_id between %(first)s and %(last)s and tableoid <> ('refill.' || %(name)s)::regclass
)
select entry_id, side from (
    select entry_id, side,
           balance - amount <> lag(balance, 1, balance - amount) over (partition by side order by entry_id) as is_apart
    from moved
) m where is_apart
union all
select o.entry_id, o.side from others o join spans s using (side) where o.entry_id between s.first and s.last
limit 1
"""
