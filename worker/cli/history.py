"""`refill history`"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Annotated

import typer

from jobs import account, program_store
from jobs.errors import Malformed
from jobs.history import HistoryRow, Period, omitted, rows
from jobs.ledger.database import Connection, database_now
from jobs.money import format_number
from jobs.program import Program
from jobs.viewer import check_visible, find_viewer, visible_accounts
from worker.cli.moments import parse_end, parse_moment, shown_moment
from worker.cli.parts import Session, example, single
from worker.console import Column, Printer

SHOWN = 50
DAYS = 30
PAGE = 500

COLUMNS = (
    Column("at", "time (UTC)"),
    Column("kind", "kind"),
    Column("amount", "amount", "right"),
    Column("balance", "balance", "right"),
    Column("lot", "lot", "right"),
    Column("charge", "charge", "right"),
    Column("event_id", "event"),
    Column("ref", "ref"),
    Column("memo", "memo"),
    Column("actor", "by"),
)

app = single()


@app.command(
    epilog=example("refill history camp-1 --days 7", "refill history --as ann --from 2026-03-01 --to 2026-03-31")
)
def _history(
    context: typer.Context,
    accounts: Annotated[
        list[str] | None,
        typer.Argument(metavar="ACCOUNT", help="Which accounts; all that may be seen by default."),
    ] = None,
    viewer: Annotated[
        str | None,
        typer.Option("--as", metavar="USER", help="Only what this member may see; USER or ORGANISATION/USER."),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, max=36_500, help="The last N days [30].")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="D", help="From this day or moment on (UTC).")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="D", help="Up to this day and with it (UTC).")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", metavar="N", min=0, help="The N newest rows of each account; 0 for all [50; JSON: all]."
        ),
    ] = None,
) -> None:
    """What came into accounts and went out, newest last, with the balance after each entry."""
    session = Session.of(context)
    with session.ledger() as connection:
        period = _period(days, since, until, database_now(connection))
        member = None if viewer is None else find_viewer(connection, viewer)
        names = check_visible(connection, member, accounts) if accounts else visible_accounts(connection, member)
        if session.printer.as_json:
            session.printer.rows(COLUMNS, (asdict(row) for row in rows(connection, names, period, limit or None)))
        else:
            most = SHOWN if limit is None else limit
            _tables(session.printer, connection, names, period, most or None, is_asked_for=bool(accounts))


def _period(days: int | None, since: str | None, until: str | None, now: datetime) -> Period:
    if days is not None and (since is not None or until is not None):
        raise Malformed("give either --days, or --from and --to, not both")
    end = now + timedelta(seconds=1) if until is None else parse_end(until, now)
    begin = end - timedelta(days=days or DAYS) if since is None else parse_moment(since, now)
    if begin >= end:
        raise Malformed(f"--from {shown_moment(begin)} must be before --to {shown_moment(end)}")
    return Period(begin, end)


def _tables(
    printer: Printer,
    connection: Connection,
    names: Sequence[str],
    period: Period,
    limit: int | None,
    *,
    is_asked_for: bool,
) -> None:
    """A table for each account with entries in the period; one that was asked for by name is said to have none."""
    span = f"from {shown_moment(period.since)} to {shown_moment(period.until)}"
    is_empty = True
    for name in names:
        found = rows(connection, [name], period, limit)
        first = next(found, None)
        if first is not None:
            is_empty = False
            _account_table(printer, connection, name, period, limit, chain([first], found))
        elif is_asked_for:
            printer.note(f"{name} has no entries {span}.")
    if is_empty and not is_asked_for:
        printer.note(f"There are no entries {span}.")


def _account_table(
    printer: Printer,
    connection: Connection,
    name: str,
    period: Period,
    limit: int | None,
    found: Iterator[HistoryRow],
) -> None:
    program = program_store.find(connection, account.find(connection, name).program).program
    title: str | None = (
        f"{name} · {program.title}, in {program.unit.plural}{_left_out(connection, name, period, limit)}"
    )
    while page := list(islice(found, PAGE)):  # in pages: a table knows its widths only when it has all its rows
        lines = list(_lines(page, program))
        columns = [column for column in COLUMNS if any(line[column.key] is not None for line in lines)]
        printer.rows(columns, lines, title=title)
        title = None


def _left_out(connection: Connection, name: str, period: Period, limit: int | None) -> str:
    left_out = None if limit is None else omitted(connection, name, period, limit)
    if left_out is None or not left_out.count:
        return ""
    number = f"More than {left_out.count:,}" if left_out.is_more else f"{left_out.count:,}"
    return f"\n{number} earlier {'row' if number == '1' else 'rows'} not shown; --limit 0 shows all."


def _lines(page: Iterable[HistoryRow], program: Program) -> Iterator[dict[str, object]]:
    """Rows for people. What a spend drew from a second lot stands below its first, with nothing said twice."""
    before: HistoryRow | None = None
    for row in page:
        is_same = before is not None and row.event_id is not None and _event(before) == _event(row)
        yield {
            "at": None if is_same else f"{row.at:%Y-%m-%d %H:%M:%S}",
            "kind": None if is_same else row.kind,
            "amount": ("+" if row.amount > 0 else "") + format_number(row.amount, program.decimals),
            "balance": format_number(row.balance_after, program.decimals),
            "lot": None if row.lot_id is None else str(row.lot_id),
            "charge": None if row.charge_id is None else str(row.charge_id),
            "event_id": None if is_same else row.event_id,
            "ref": None if is_same else row.ref,
            "memo": None if is_same else row.memo,
            "actor": None if is_same else row.actor,
        }
        before = row


def _event(row: HistoryRow) -> tuple[object, ...]:
    return row.kind, row.event_id, row.at
