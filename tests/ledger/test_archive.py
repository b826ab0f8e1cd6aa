"""Old months out of the ledger and back: every entry counts once, what is kept is proved, and nothing is hidden."""

from __future__ import annotations

import gzip
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import LiteralString

import pytest

from jobs import archive, archive_file, partition
from jobs.archive import Archive, Wish
from jobs.archived import EntriesArchived
from jobs.audit import CHECKS, AuditFailed, audit
from jobs.errors import RefillError
from jobs.explain import explain
from jobs.history import Period, rows
from jobs.ledger.database import connect
from jobs.standing import standing_at
from tests.charging.world import LIMITS
from tests.ledger.books import DAY, HOUR, T0, Books
from tests.support.seed import load_examples
from tests.support.waiting import eventually

JANUARY, FEBRUARY, MARCH = "2026-01", "2026-02", "2026-03"
IN_FEBRUARY = T0 + 31 * DAY
IN_MARCH = IN_FEBRUARY + 28 * DAY
IN_APRIL = IN_MARCH + 31 * DAY
YEAR = Period(T0, T0 + 365 * DAY)
ENTRIES: LiteralString = "select * from refill.entry order by entry_id"
BLOCKED: LiteralString = (
    "select 1 from pg_locks where not granted and mode = 'AccessExclusiveLock' and relation = 'refill.entry'::regclass"
)
CARRIED: LiteralString = (
    "select (select count(*) from refill.entry_carried) + (select count(*) from refill.entry_carried_account)"
)


@pytest.fixture
def ledger(broken_books: Books) -> Books:
    """Entries of every kind in January, February and March, each month in its partition; right at the end too."""
    books = broken_books
    books.run("select refill.ensure_entry_partitions(3, %s)", (T0,))
    books.open("busy")
    books.open("idle")
    books.open("points", "points", idle_days=365)
    books.grant("busy", 100, expires_at=IN_MARCH)
    books.buy("busy", 500)
    books.spend("busy", 60, "january-1", now=T0 + DAY)
    books.spend("busy", 70, "january-2", now=T0 + 2 * DAY)
    books.spend("busy", 9_999, "january-refused", now=T0 + 2 * DAY)
    books.grant("idle", 40, expires_at=IN_FEBRUARY + DAY)
    books.grant("points", 30, now=T0 + HOUR)
    books.spend("points", 5, "january-3", now=T0 + 3 * DAY)
    books.buy("busy", 25, now=IN_FEBRUARY)
    books.expire("idle", now=IN_FEBRUARY + 2 * DAY)
    books.spend("busy", 10, "february-1", now=IN_FEBRUARY + DAY)
    books.spend("busy", 20, "march-1", now=IN_MARCH + DAY)
    assert books.audit() == []
    return books


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where archives go."""
    return tmp_path


def take(books: Books, directory: Path, month: str = JANUARY, *, keep: int = 1, force: bool = False) -> Archive:
    return archive.create(books.connection, Wish(month, directory, "tester", keep, force))


def put_back(books: Books, path: Path) -> Archive:
    return archive.restore(books.connection, path, "tester")


def partitions(books: Books) -> list[str]:
    return [name for (name,) in books.rows("select name from refill.entry_partition where since < '2026-05-01'")]


def test_a_month_that_is_archived_and_restored_is_as_it_was(ledger: Books, here: Path) -> None:
    before = ledger.rows(ENTRIES)
    history = list(rows(ledger.connection, ["busy", "idle", "points"], YEAR))
    made = take(ledger, here)
    assert ledger.audit() == []
    assert (made.rows, made.month) == (8, JANUARY)
    assert ledger.rows(ENTRIES) == [row for row in before if row[1] >= IN_FEBRUARY]
    assert "entry_2026_01" not in partitions(ledger)
    restored = put_back(ledger, here / made.file)
    assert restored.restored_by == "tester"
    assert ledger.rows(ENTRIES) == before
    assert list(rows(ledger.connection, ["busy", "idle", "points"], YEAR)) == history
    assert ledger.value(CARRIED) == 0
    assert ledger.audit() == []


def test_months_may_be_archived_in_any_order_and_credit_goes_on_moving(ledger: Books, here: Path) -> None:
    files = [take(ledger, here, month).file for month in (FEBRUARY, JANUARY, MARCH)]
    assert ledger.value("select count(*) from refill.entry") == 0
    assert ledger.audit() == []
    assert ledger.spend("busy", 5, "april-1", now=IN_APRIL).balance == 460
    ledger.buy("busy", 10, now=IN_APRIL)
    assert ledger.audit() == []
    for file in files:
        put_back(ledger, here / file)
        assert ledger.audit() == []


def test_a_restored_month_may_be_archived_again(ledger: Books, here: Path) -> None:
    first = take(ledger, here)
    put_back(ledger, here / first.file)
    again = take(ledger, here)
    assert again.sha256 == first.sha256, "the same entries are the same file"
    assert [one.restored_at is None for one in archive.archives(ledger.connection)] == [False, True]
    assert ledger.audit() == []


def test_an_event_of_an_archived_month_gets_its_first_outcome_again(ledger: Books, here: Path) -> None:
    take(ledger, here)
    before = ledger.balance("busy")
    assert ledger.spend("busy", 60, "january-1", now=None).outcome == "accepted"
    assert ledger.spend("busy", 9_999, "january-refused", now=None).outcome == "insufficient_credit"
    assert ledger.spend("busy", 61, "january-1", now=None).outcome == "conflict"
    assert ledger.balance("busy") == before
    assert ledger.value("select count(*) from refill.entry where event_id like 'january%'") == 0
    assert ledger.audit() == []


def test_the_file_is_whole_private_and_named_after_its_ledger(ledger: Books, here: Path) -> None:
    made = take(ledger, here)
    installation = ledger.value("select left(installation_id::text, 8) from refill.installation")
    assert [path.name for path in here.iterdir()] == [made.file] == [f"refill-entries-2026-01-{installation}.csv.gz"]
    path = here / made.file
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == made.bytes
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert lines[0].startswith("entry_id,at,kind,program_id,from_side,to_side,amount,lot_id,")
    assert len(lines) == 1 + made.rows


def test_text_of_every_kind_survives(ledger: Books, here: Path) -> None:
    memo = 'quote " comma , line\nend \\N € \t'
    ledger.run("update refill.account set balance = balance + 1 where name = 'idle'")
    ledger.run(
        "insert into refill.lot (account_id, class, granted, remaining, currency, effective_at)"
        " select account_id, 'promotional', 1, 1, 'USD', %s from refill.account where name = 'idle'",
        (IN_MARCH,),
    )
    ledger.run(
        "insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, to_balance, memo, actor)"
        " select %s, 'promotion', program_id, refill.own_side(program_id, 'promotion'), account_id, 1,"
        " (select max(lot_id) from refill.lot), 1, %s, '' from refill.account where name = 'idle'",
        (IN_MARCH + 2 * DAY, memo),
    )
    before = ledger.rows(ENTRIES)
    put_back(ledger, here / take(ledger, here, MARCH).file)
    assert ledger.rows(ENTRIES) == before
    assert ledger.rows("select memo, actor from refill.entry where memo is not null and actor = ''") == [(memo, "")]


def test_history_says_what_lies_in_an_archive_and_its_balances_go_on(ledger: Books, here: Path) -> None:
    made = take(ledger, here)
    told = list(rows(ledger.connection, ["busy"], YEAR))
    assert [(row.kind, row.amount, row.balance_after) for row in told] == [
        ("archived", 470, 470),
        ("purchase", 25, 495),
        ("spend", -10, 485),
        ("spend", -20, 465),
    ]
    assert made.file in (told[0].memo or "")
    assert "5 entries of 2026-01" in (told[0].memo or "")
    later = Period(IN_FEBRUARY, YEAR.until)
    assert "archived" not in {row.kind for row in rows(ledger.connection, ["busy"], later)}


def test_the_past_is_told_from_sums_where_they_reach_and_refused_where_they_do_not(ledger: Books, here: Path) -> None:
    account_id, points = ledger.account_id("busy"), ledger.account_id("points")
    moments = [IN_FEBRUARY, IN_FEBRUARY + 3 * DAY, IN_MARCH + 3 * DAY]
    before = [standing_at(ledger.connection, one, at) for one in (account_id, points) for at in moments]
    take(ledger, here)
    assert [standing_at(ledger.connection, one, at) for one in (account_id, points) for at in moments] == before
    with pytest.raises(EntriesArchived, match="refill archive restore"):
        standing_at(ledger.connection, account_id, T0 + 5 * DAY)


def test_an_explanation_tells_of_an_archive_and_is_refused_for_a_moment_inside_it(
    broken_books: Books, here: Path
) -> None:
    books = broken_books
    books.run("select refill.ensure_entry_partitions(3, %s)", (T0,))
    load_examples(books.connection)
    books.open("anna", "points")
    books.grant("anna", 100)
    books.spend("anna", 30, now=T0 + DAY)
    take(books, here)
    now = explain(books.connection, "anna", LIMITS)
    assert [(row.kind, row.amount, row.balance_after) for row in now.entries] == [("archived", 70, 70)]
    assert explain(books.connection, "anna", LIMITS, IN_FEBRUARY).standing.balance == 70
    with pytest.raises(EntriesArchived, match="refill archive restore"):
        explain(books.connection, "anna", LIMITS, T0 + HOUR)


def test_memory_and_time_of_reading_do_not_grow_with_what_is_archived(ledger: Books, here: Path) -> None:
    take(ledger, here)
    assert ledger.value("select count(*) from refill.movement where entry_id is null") < 8
    assert ledger.value("select sum(entries) from refill.movement") == 12


def _refusals(ledger: Books, here: Path) -> Iterator[tuple[str, int, object]]:
    yield "unknown_month", 1, lambda: take(ledger, here, "2019-07")
    yield "archive_too_recent", 1, lambda: take(ledger, here, keep=600)
    this_month = ledger.value("select to_char(now() at time zone 'UTC', 'YYYY-MM')")
    yield "archive_too_recent", 1, lambda: take(ledger, here, this_month, force=True)
    yield "archive_unwritable", 1, lambda: take(ledger, here / "missing")


def test_what_cannot_be_archived_is_refused_and_changes_nothing(ledger: Books, here: Path) -> None:
    before = ledger.rows(ENTRIES)
    for code, status, act in _refusals(ledger, here):
        with pytest.raises(RefillError) as refusal:
            act()  # type: ignore[operator]
        assert (refusal.value.code, refusal.value.exit_status) == (code, status)
    assert ledger.rows(ENTRIES) == before
    assert archive.archives(ledger.connection) == []


def test_force_archives_a_month_that_is_over_and_would_be_kept(ledger: Books, here: Path) -> None:
    assert take(ledger, here, keep=600, force=True).rows == 8


def test_a_month_is_archived_once(ledger: Books, here: Path) -> None:
    made = take(ledger, here)
    with pytest.raises(archive.AlreadyArchived, match=made.file):
        take(ledger, here)


def test_wrong_books_are_not_archived(ledger: Books, here: Path) -> None:
    ledger.run("update refill.account set balance = balance + 1 where name = 'busy'")
    with pytest.raises(AuditFailed, match="account_entries"):
        take(ledger, here)
    assert list(here.iterdir()) == []


def test_a_month_between_whose_entries_others_lie_is_not_archived(ledger: Books, here: Path) -> None:
    ledger.spend("busy", 1, "late-1", now=T0 + 30 * DAY)
    with pytest.raises(archive.EntriesInterleaved):
        take(ledger, here)
    take(ledger, here, FEBRUARY)
    assert ledger.audit() == []
    with pytest.raises(archive.EntriesInterleaved):
        take(ledger, here)


def test_a_full_disk_leaves_the_ledger_and_no_half_file(ledger: Books, here: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))  # Python ignores the signal: writing fails
    try:
        with pytest.raises(RefillError) as refusal:
            take(ledger, here)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refusal.value.code == "archive_unwritable"
    assert list(here.iterdir()) == []
    assert take(ledger, here).rows == 8


def test_another_file_is_not_restored(ledger: Books, here: Path) -> None:
    made = take(ledger, here)
    path = here / made.file
    content = path.read_bytes()
    other = here / "other.csv.gz"
    other.write_bytes(gzip.compress(b"entry_id\n"))
    with pytest.raises(archive.NotArchived):
        put_back(ledger, other)
    path.write_bytes(content[:-1])
    with pytest.raises(archive.ArchiveMismatch):
        put_back(ledger, path)
    path.unlink()
    with pytest.raises(RefillError) as refusal:
        put_back(ledger, path)
    assert refusal.value.code == "archive_damaged"
    renamed = here / "moved.csv.gz"
    renamed.write_bytes(content)
    assert put_back(ledger, renamed).restored_at is not None
    with pytest.raises(archive.NotArchived, match="was restored"):
        put_back(ledger, renamed)


def test_a_file_with_other_rows_is_not_restored_even_where_its_sum_is_noted(ledger: Books, here: Path) -> None:
    path = here / take(ledger, here).file
    head, first, *rest = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(head + b"".join(rest)))
    ledger.run("update refill.entry_archive set sha256 = %s", (archive_file.digest(path),))
    with pytest.raises(archive_file.ArchiveDamaged, match="holds 7 entries"):
        put_back(ledger, path)
    assert first
    assert "entry_2026_01" not in partitions(ledger)


def test_a_file_from_before_a_column_is_restored_into_a_ledger_that_has_it(ledger: Books, here: Path) -> None:
    before = ledger.rows(ENTRIES)
    made = take(ledger, here)
    ledger.run("alter table refill.entry add column reason text")
    put_back(ledger, here / made.file)
    assert ledger.rows(ENTRIES) == [(*entry, None) for entry in before]


def test_an_entry_that_came_for_an_archived_month_is_there_after_it_is_restored(ledger: Books, here: Path) -> None:
    made = take(ledger, here)
    ledger.open("late")
    ledger.grant("late", 7, now=T0 + 30 * DAY)
    assert ledger.value("select count(*) from refill.entry_default") == 1
    assert partition.ensure(ledger.connection, IN_MARCH) == ["entry_2026_05", "entry_2026_06"]
    assert ledger.audit() == []
    put_back(ledger, here / made.file)
    assert ledger.value("select count(*) from refill.entry_default") == 0
    assert ledger.audit() == []


def test_a_reader_holds_an_archive_up_and_is_told_of_where_it_does_not_end(
    ledger: Books, here: Path, database: str
) -> None:
    with connect(database) as reader, connect(database) as other, ThreadPoolExecutor(1) as pool:
        reader.execute("begin")
        reader.execute("select count(*) from refill.entry")
        with pytest.raises(partition.EntriesBusy):
            archive.create(ledger.connection, Wish(JANUARY, here, "tester", 1), try_for_s=0.5)
        assert ledger.audit() == []
        waiting = pool.submit(take, ledger, here)
        eventually(lambda: other.execute(BLOCKED).fetchone())
        for number in range(20):  # whoever spends meanwhile is let through
            assert Books(other).spend("busy", 1, f"meanwhile-{number}", now=IN_APRIL).outcome == "accepted"
        assert not waiting.done()
        reader.execute("rollback")
        assert waiting.result(timeout=60).rows == 8
    assert ledger.audit() == []


def test_an_audit_that_begins_while_a_month_goes_counts_each_entry_once(ledger: Books, database: str) -> None:
    with connect(database) as archiver, connect(database) as auditor, ThreadPoolExecutor(1) as pool:
        with archiver.transaction():
            archiver.execute(
                "insert into refill.entry_archive"
                " (month, since, until, file, sha256, bytes, rows, credits, archived_by)"
                " select %s, since, until, 'file', repeat('0', 64), 1, e.rows, e.credits, 'tester'"
                " from refill.entry_partition,"
                " (select count(*) as rows, sum(amount) as credits from refill.entry_2026_01) e"
                " where name = 'entry_2026_01'",
                (JANUARY,),
            )
            archiver.execute("select refill.carry_entries(1, 'entry_2026_01')")
            archiver.execute("select refill.drop_entries('entry_2026_01')")
            findings = pool.submit(audit, auditor)
            eventually(lambda: ledger.rows("select 1 from pg_locks where not granted"))
        assert findings.result(timeout=30) == []


def test_one_month_is_archived_by_one_of_many_at_once(ledger: Books, here: Path, database: str) -> None:
    start = threading.Barrier(3)

    def run(_: int) -> str:
        with connect(database) as connection:
            start.wait(timeout=30)
            try:
                return archive.create(connection, Wish(JANUARY, here, "tester", 1)).month
            except RefillError as error:
                return error.code

    with ThreadPoolExecutor(3) as pool:
        answers = sorted(pool.map(run, range(3)))
    assert answers[0] == JANUARY
    assert set(answers[1:]) <= {"archive_busy", "already_archived"}
    assert ledger.audit() == []


DAMAGES: list[tuple[str, LiteralString]] = [
    ("account_entries", "update refill.entry_carried set amount = amount + 1 where kind = 'spend'"),
    ("account_chain", "update refill.entry_carried_account set closing = closing + 1 where account_id = 1"),
    ("archive_carried", "update refill.entry_carried_account set opening = opening + 1 where account_id = 1"),
    ("archive_carried", "delete from refill.entry_archive"),
    ("archive_carried", "update refill.entry_archive set rows = rows + 1"),
    ("archive_carried", "update refill.entry_archive set restored_at = now(), restored_by = 'me'"),
    ("archive_carried", "delete from refill.entry_carried_account where account_id = 2"),
    ("spend_carried", "update refill.entry_carried_account set spend_events = spend_events + 1 where account_id = 3"),
    ("spend_carried", "update refill.spend_event set amount = amount + 1 where event_id = 'january-2'"),
    ("spend_carried", "delete from refill.spend_event where event_id = 'january-1'"),
    ("lot_granted", "update refill.entry_carried set lot_id = 2 where lot_id = 1 and kind = 'promotion'"),
    ("entry_lot", "update refill.entry_carried set lot_id = 99 where kind = 'spend' and from_side = 3"),
    ("entry_sides", "update refill.entry_carried set from_side = -99 where kind = 'promotion'"),
    ("charge_grant", "update refill.entry_carried set entries = 2 where kind = 'purchase'"),
    ("charge_unsettled", "update refill.entry_carried set charge_id = 99 where kind = 'purchase'"),
    ("program_sides", "delete from refill.entry_carried where from_side < 0"),
    ("lot_remaining", "delete from refill.entry_carried where kind = 'spend'"),
]


@pytest.mark.parametrize(("code", "act"), DAMAGES, ids=[f"{code}-{n}" for n, (code, _) in enumerate(DAMAGES)])
def test_the_audit_names_what_is_broken_in_what_is_carried(
    ledger: Books, here: Path, code: str, act: LiteralString
) -> None:
    take(ledger, here)
    ledger.run("set session_replication_role = replica")
    ledger.run("drop index refill.entry_carried_once")
    ledger.run(act)
    assert code in {finding.check.code for finding in ledger.audit()}
    assert code in {check.code for check in CHECKS}


@pytest.mark.parametrize("table", ["entry_carried", "entry_carried_account"])
def test_what_is_carried_cannot_be_changed(ledger: Books, here: Path, table: str) -> None:
    take(ledger, here)
    for change in (f"delete from refill.{table}", f"update refill.{table} set entries = entries + 1"):
        with pytest.raises(Exception, match="immutable"):
            ledger.connection.execute(change.encode())


def test_the_months_of_an_older_ledger_are_archived_as_one(ledger: Books, here: Path) -> None:
    """Its first partition has no beginning: what came before partitions lies in it."""
    ledger.run(
        "alter table refill.entry detach partition refill.entry_2026_01;"
        "alter table refill.entry attach partition refill.entry_2026_01 for values from (minvalue) to ('2026-02-01')"
    )
    before = ledger.rows(ENTRIES)
    with pytest.raises(archive.UnknownMonth, match="archive 2026-01"):
        take(ledger, here, "2025-06")
    made = take(ledger, here)
    assert made.since is None
    with pytest.raises(archive.AlreadyArchived):
        take(ledger, here, "2025-06")
    assert ledger.audit() == []
    put_back(ledger, here / made.file)
    assert ledger.rows(ENTRIES) == before
    take(ledger, here)
    with pytest.raises(EntriesArchived):
        standing_at(ledger.connection, ledger.account_id("busy"), T0 - timedelta(days=500))


def test_the_moment_at_which_a_silent_account_dies_is_known_without_its_entries(ledger: Books, here: Path) -> None:
    at: datetime = T0 + 367 * DAY
    points = ledger.account_id("points")
    before = standing_at(ledger.connection, points, at)
    take(ledger, here)
    assert standing_at(ledger.connection, points, at) == before
    assert before.lots[0].expires_at == T0 + 3 * DAY + 365 * DAY


def test_the_directory_that_may_not_be_written_is_named(ledger: Books, here: Path) -> None:
    if os.geteuid() == 0:
        here = Path("/proc")  # where not even root may write
    else:
        here.chmod(0o500)
    with pytest.raises(RefillError) as refusal:
        take(ledger, here)
    assert refusal.value.code == "archive_unwritable"
    assert str(here) in str(refusal.value)
