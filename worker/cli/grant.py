"""`refill grant`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs import account as accounts
from jobs import grant, program_store
from jobs.money import parse_amount
from worker.cli.parts import Session, example, single
from worker.console import shown

app = single()


@app.command("grant", epilog=example("refill grant camp-1 5000 --reason 'welcome gift' --expires-days 30"))
def _grant(
    context: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Who gets it.")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Credits in the program's smallest unit.")],
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="Why; kept in the entry.")],
    expires_days: Annotated[
        str | None,
        typer.Option("--expires-days", metavar="N", help="When it expires.", show_default="as the program says"),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option("--request-id", metavar="ID", help="Makes it safe to repeat: an id is granted once."),
    ] = None,
) -> None:
    """Give an account promotional credit that nobody paid for."""
    session = Session.of(context)
    wanted = parse_amount(amount)
    days = None if expires_days is None else parse_amount(expires_days)
    with session.ledger() as connection:
        granted = grant.grant(
            connection, account, wanted, reason, session.actor, expires_days=days, request_id=request_id
        )
        program = program_store.find(connection, accounts.find(connection, account).program).program
    until = f", until {shown(granted.expires_at)}" if granted.expires_at else ""
    session.printer.done(
        f"Granted {program.show(wanted)} to {account}{until}; the balance is {program.show(granted.balance)}.",
        asdict(granted),
    )
