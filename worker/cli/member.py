"""`refill member add`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs import member
from jobs.member import Role
from worker.cli.parts import Session, example, group

app = group("Members: who may do what in an organisation.")


@app.command("add", epilog=example("refill member add acme ann --role manager --account camp-1 --account camp-2"))
def _add(
    context: typer.Context,
    organisation: Annotated[str, typer.Argument(metavar="ORG", help="Whose member it is.")],
    user: Annotated[str, typer.Argument(metavar="USER", help="The member's name, 1 to 64 characters.")],
    role: Annotated[Role, typer.Option("--role", help="master: everything; the others: the accounts named.")],
    account: Annotated[
        list[str] | None, typer.Option("--account", metavar="A", help="An account that the member may use; repeatable.")
    ] = None,
) -> None:
    """Add a member to an organisation, or name more accounts to one."""
    session = Session.of(context)
    with session.ledger() as connection:
        added = member.add(connection, organisation, user, role, account or [], session.actor)
    reach = "every account" if added.role == "master" else ", ".join(added.accounts)
    session.printer.done(f"{added.name} is a {added.role} of {added.organisation}: {reach}.", asdict(added))
