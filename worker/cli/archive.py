"""`refill archive`: old months of entries, out of the ledger into files and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from config.settings import load_settings
from jobs import archive
from jobs.archive import Archive, Wish
from jobs.archive_file import Progress as Report
from jobs.errors import Malformed
from worker.cli.parts import Session, example, group
from worker.console import Column, Row

app = group("Archives: old months of entries, taken out of the ledger into files, and put back.")

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_COLUMNS = (
    Column("month", "month"),
    Column("state", "entries are"),
    Column("rows", "entries", "right"),
    Column("file", "file"),
    Column("sha256", "sha256"),
    Column("archived_at", "archived (UTC)"),
    Column("archived_by", "by"),
)


@app.command("create", epilog=example("refill archive create 2025-10 --to /var/backups/refill"))
def _create(
    context: typer.Context,
    month: Annotated[str, typer.Argument(metavar="YYYY-MM", help="A month that is over (UTC).")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="An existing directory; it takes the file.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also where REFILL_ENTRY_KEEP_MONTHS would keep the month.")
    ] = False,
) -> None:
    """Take the entries of a month out of the ledger into a file, verified before anything is removed.

    Balances, outcomes and event ids stay; the audit goes on proving the sums. Spending waits about 100 ms at a time.
    Killed or failed, it changes nothing and may be run again. Keep the file: only it can bring the entries back.
    """
    session = Session.of(context)
    if not _MONTH.fullmatch(month):
        raise Malformed(f"a month is given like 2025-10, not {month!r}")
    if not to.is_dir():
        raise Malformed(f"--to {to} is no directory")
    wish = Wish(month, to, session.actor, load_settings().entry_keep_months, force)
    with session.ledger() as connection, _progress("verified", archive.entries_of(connection, month)) as report:
        made = archive.create(connection, wish, report)
    path = to / made.file
    session.printer.done(
        f"{made.rows:,} entries of {made.month} are in {path}, sha256 {made.sha256}.", {**_row(made), "path": str(path)}
    )


@app.command("restore", epilog=example("refill archive restore refill-entries-2025-10-1a2b3c4d.csv.gz"))
def _restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `refill archive create` wrote.", dir_okay=False)],
) -> None:
    """Put the entries of an archived month back into the ledger, from the very file that it was archived to."""
    session = Session.of(context)
    with session.ledger() as connection:
        known = next((one for one in archive.archives(connection) if one.file == file.name), None)
        with _progress("loaded", known.rows if known else 0) as report:
            restored = archive.restore(connection, file, session.actor, report)
    session.printer.done(f"{restored.rows:,} entries of {restored.month} are in the ledger again.", _row(restored))


@app.command("list", epilog=example("refill archive list --json"))
def _list(context: typer.Context) -> None:
    """Every month that was archived, with its file, and whether it was restored."""
    session = Session.of(context)
    with session.ledger() as connection:
        rows = [_row(one) for one in archive.archives(connection)]
    session.printer.rows(_COLUMNS, rows, empty="No month is archived.")


def _row(one: Archive) -> Row:
    return asdict(one) | {"state": "in the file" if one.restored_at is None else "restored"}


@contextmanager
def _progress(word: str, total: int) -> Iterator[Report]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(word, total=total or None)
        yield lambda count: progress.advance(task, count)
