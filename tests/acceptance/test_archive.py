"""`refill archive` as it is typed, and killed: at every moment each entry is in the ledger or in a verified file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import pytest

from jobs.ledger.database import Connection, connect
from tests.ledger.books import DAY, HOUR, T0, Books, Spend
from tests.support.processes import Processes
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance

FEBRUARY = T0 + 31 * DAY
EVENTS = 20_000
ENTRIES: LiteralString = "select count(*), sum(amount), sum(hashtext(e::text)) from refill.entry e"
WAITING: LiteralString = (
    "select 1 from pg_stat_activity where application_name = 'refill' and datname = current_database()"
    " and wait_event_type = 'Lock'"
)
CONNECTED: LiteralString = (
    "select count(*) from pg_stat_activity where application_name = 'refill' and datname = current_database()"
)


class Site:
    """One ledger with a busy January, a directory for archives, and the commands of whoever looks after both."""

    def __init__(self, processes: Processes, url: str, directory: Path, books: Books) -> None:
        self._processes = processes
        self.url = url
        self.directory = directory
        self.books = books
        self.before = books.rows(ENTRIES)

    def start(self, *arguments: str) -> Any:
        return self._processes.refill(*arguments, environment={"DATABASE_URL": self.url})

    def refill(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit status, and what was said as JSON."""
        running = self.start(*arguments, "--json")
        status = running.wait(timeout=120)
        return status, [json.loads(line) for line in running.lines]

    def said(self, *arguments: str, **settings: str) -> str:
        """What a command says to people that ends well."""
        running = self._processes.refill(*arguments, environment={"DATABASE_URL": self.url, **settings})
        assert running.wait(timeout=120) == 0, running.output
        return running.output

    def create(self) -> Any:
        return self.start("archive", "create", "2026-01", "--to", str(self.directory), "--force", "--json")

    def files(self, pattern: str = "*") -> list[Path]:
        return sorted(self.directory.glob(pattern))

    def is_whole(self) -> bool:
        """Whether the ledger holds every entry and is right."""
        eventually(lambda: self.books.value(CONNECTED) == 0)
        return self.books.rows(ENTRIES) == self.before and self.books.audit() == []


@pytest.fixture
def site(processes: Processes, database: str, tmp_path: Path) -> Iterator[Site]:
    with connect(database, application="test") as connection:
        books = Books(connection)
        books.run("select refill.ensure_entry_partitions(1, %s)", (T0,))
        books.open("a")
        books.buy("a", 10 * EVENTS)
        books.post(*(Spend(f"e{number}", "a", 1) for number in range(EVENTS)), now=T0 + HOUR)
        books.spend("a", 5, now=FEBRUARY)
        yield Site(processes, database, tmp_path, books)


@contextmanager
def held(url: str, lock: LiteralString) -> Iterator[Connection]:
    """Somebody else's transaction that holds a lock."""
    with connect(url, application="holder") as connection, connection.transaction():
        connection.execute(lock)
        yield connection


def test_a_month_goes_into_a_file_and_comes_back(site: Site) -> None:
    created = site.create()
    assert created.wait(timeout=120) == 0
    answer = json.loads(created.lines[-1])
    assert (answer["month"], answer["rows"]) == ("2026-01", EVENTS + 1)
    path = Path(answer["path"])
    assert site.files() == [path]
    status, listed = site.refill("archive", "list")
    assert (status, [one["state"] for one in listed]) == (0, ["in the file"])
    assert site.refill("audit")[0] == 0
    status, told = site.refill("history", "a", "--from", "2026-01-10")
    assert [(row["kind"], row["balance_after"]) for row in told] == [
        ("archived", 9 * EVENTS),
        ("spend", 9 * EVENTS - 5),
    ]
    status, restored = site.refill("archive", "restore", str(path))
    assert (status, restored[0]["rows"]) == (0, EVENTS + 1)
    assert site.is_whole()
    assert site.refill("archive", "list")[1][0]["state"] == "restored"


def test_people_are_told_in_a_sentence(site: Site) -> None:
    assert "No month is archived." in site.said("archive", "list")
    said = site.said("archive", "create", "2026-01", "--to", str(site.directory), "--force")
    assert "20,001 entries of 2026-01 are in" in said
    assert "in the file" in site.said("archive", "list")


REFUSALS = [
    (("create", "January", "--to", "."), "malformed", 2),
    (("create", "2026-13", "--to", "."), "malformed", 2),
    (("create", "2026-01", "--to", "/nowhere/at/all"), "malformed", 2),
    (("create", "2026-01"), "malformed", 2),
    (("create", "2019-01", "--to", "."), "unknown_month", 1),
    (("create", "2026-01", "--to", "/proc", "--force"), "archive_unwritable", 1),
    (("restore", "nothing.csv.gz"), "archive_damaged", 1),
    (("restore", "pyproject.toml"), "not_archived", 1),
]


def test_what_cannot_be_done_is_refused_by_its_code(site: Site) -> None:
    for arguments, code, status in REFUSALS:
        ended, said = site.refill("archive", *arguments)
        assert (ended, said[-1]["error"]) == (status, code), arguments
    assert site.is_whole()


def test_killed_before_it_wrote_anything(site: Site) -> None:
    with held(site.url, "lock table refill.entry_2026_01 in share mode"):
        running = site.create()
        eventually(lambda: site.books.rows(WAITING))
        running.kill()
    assert site.is_whole()
    assert site.files() == []
    assert site.create().wait(timeout=120) == 0


def test_killed_while_it_writes(site: Site) -> None:
    running = site.create()
    eventually(site.files, timeout=60)
    running.kill()
    if site.books.value("select count(*) from refill.entry_archive") == 0:
        assert site.is_whole()
        assert site.create().wait(timeout=120) == 0
    assert [path.suffix for path in site.files()] == [".gz"]
    assert site.books.audit() == []


def test_killed_when_the_file_is_whole_and_the_partition_is_still_there(site: Site) -> None:
    with held(site.url, "select count(*) from refill.entry"):
        running = site.create()
        eventually(lambda: site.files("*.gz"), timeout=60)
        eventually(lambda: site.books.rows(WAITING), timeout=60)
        running.kill()
    assert site.is_whole()
    [copy] = site.files()
    content = copy.read_bytes()
    assert site.create().wait(timeout=120) == 0
    assert copy.read_bytes() == content


def test_killed_after_it_was_done_it_says_so_the_next_time(site: Site) -> None:
    assert site.create().wait(timeout=120) == 0
    again = site.create()
    assert again.wait(timeout=120) == 1
    refusal = json.loads(again.lines[-1])
    assert (refusal["error"], refusal["file"]) == ("already_archived", site.files()[0].name)


@pytest.mark.parametrize(
    "lock",
    ["lock table refill.entry_archive in share mode", "select count(*) from refill.entry"],
    ids=["loaded", "about to be attached"],
)
def test_a_restore_that_is_killed_changes_nothing(site: Site, lock: LiteralString) -> None:
    assert site.create().wait(timeout=120) == 0
    [path] = site.files()
    with held(site.url, lock):
        running = site.start("archive", "restore", str(path))
        eventually(lambda: site.books.rows(WAITING), timeout=60)
        running.kill()
    eventually(lambda: site.books.value(CONNECTED) == 0)
    assert site.books.value("select count(*) from refill.entry") == 1
    assert site.books.audit() == []
    assert site.refill("archive", "restore", str(path))[0] == 0
    assert site.is_whole()


def test_the_job_makes_the_months_that_are_missing(site: Site, redis_url: str) -> None:
    for (name,) in site.books.rows("select name from refill.entry_partition where since > now()"):
        site.books.connection.execute(f"drop table refill.{name}".encode())
    settings = {
        "REDIS_URL": redis_url,
        "STRIPE_API_KEY": "sk_test_nobody",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "MAIL_DIR": str(site.directory),
    }
    for made in (3, 0):
        assert json.loads(site.said("run", "partitions", "--json", **settings))["partitions_made"] == made
