"""`refill settings`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from config.settings import describe, load_settings
from worker.catalogue import EVENTS
from worker.cli.parts import Session, example, single
from worker.console import Column

app = single()


@app.command("settings", epilog=example("refill settings --events"))
def _settings(
    context: typer.Context,
    events: Annotated[bool, typer.Option("--events", help="List the events that are logged, instead.")] = False,
) -> None:
    """List every setting with its value, where that is from, and what it is for; secrets hidden."""
    session = Session.of(context)
    if events:
        _print_events(session)
    else:
        _print_settings(session)


def _print_settings(session: Session) -> None:
    session.printer.rows(
        (
            Column("name", "Setting"),
            Column("value", "Value"),
            Column("source", "From"),
            Column("sentence", "What it is"),
        ),
        [asdict(row) for row in describe(load_settings())],
    )


def _print_events(session: Session) -> None:
    session.printer.rows(
        (
            Column("event", "Event"),
            Column("level", "Level"),
            Column("meaning", "What happened"),
            Column("fields", "Fields"),
        ),
        [{"event": name, **asdict(event)} for name, event in EVENTS.items()],
    )
