"""`refill explain`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from config.settings import load_settings
from jobs.evidence import Explanation
from jobs.explain import explain
from jobs.ledger.database import database_now
from worker.cli.explanation import show
from worker.cli.moments import parse_past
from worker.cli.parts import Session, example, single
from worker.limits import limits

app = single()


@app.command(epilog=example("refill explain camp-1", 'refill explain camp-1 --at "2026-03-01 02:15"'))
def _explain(
    context: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its name, as spend events say it.")],
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="T", help="A moment in the past: 2026-03-01T09:30:00Z, or 09:30 (UTC). [now]"),
    ] = None,
) -> None:
    """Why the account was recharged, or was not: the answer, and everything that it rests on."""
    session = Session.of(context)
    allowed = limits(load_settings())
    with session.ledger() as connection:
        moment = None if at is None else parse_past(at, database_now(connection))
        found = explain(connection, account, allowed, moment)
    if session.printer.as_json:
        session.printer.record(_json(found))
    else:
        show(found, session.printer)


def _json(found: Explanation) -> dict[str, object]:
    """One object: the sentence first, and the program by its name."""
    return {**asdict(found), "program": found.program.name, "projected": found.standing.projected}
