"""`refill migrate`"""

from __future__ import annotations

from typing import Annotated

import typer

from config.settings import load_settings
from jobs.ledger.database import migrate
from worker.cli.parts import Session, example, single

app = single()


@app.command("migrate", epilog=example("refill migrate"))
def _migrate(
    context: typer.Context,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Mark the database as one where jobs may be run for any moment.")
    ] = False,
) -> None:
    """Bring the database to this release: all in one transaction, harmless to repeat and under traffic."""
    session = Session.of(context)
    applied = migrate(load_settings(require=["database_url"]).needed("database_url"), sandbox=sandbox)
    sentence = f"Applied {', '.join(applied)}." if applied else "The database is at this release already."
    session.printer.done(sentence, {"applied": applied, "sandbox": sandbox})
