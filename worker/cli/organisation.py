"""`refill organisation create`"""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import organisation
from jobs.organisation import Sharing
from worker.cli.parts import Session, example, group

app = group("Organisations: the customers of the business.")


@app.command("create", epilog=example("refill organisation create acme --program points --shared"))
def _create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ORG", help="Its name, 1 to 64 characters.")],
    program: Annotated[str, typer.Option("--program", metavar="P", help="The program whose credit it holds.")],
    shared: Annotated[
        bool | None,
        typer.Option(
            "--shared/--individual",
            help="One balance for all, or one for each user.",
            show_default="as the program says",
        ),
    ] = None,
) -> None:
    """Create an organisation that holds credit of a program, or let an existing one hold one more."""
    session = Session.of(context)
    with session.ledger() as connection:
        made = organisation.create(connection, name, program, _sharing(shared), session.actor)
    session.printer.done(
        f"Organisation {made.name} holds {made.program} with {made.sharing} balances.",
        {"organisation": made.name, "program": made.program, "sharing": made.sharing},
    )


def _sharing(shared: bool | None) -> Sharing | None:
    if shared is None:
        return None
    return "shared" if shared else "individual"
