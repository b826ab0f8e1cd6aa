"""`refill account open | show | close`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs import account, card, program_store
from jobs.account import AccountView
from jobs.card import Card
from jobs.program import Program
from worker.cli.parts import Session, example, group
from worker.console import shown

app = group("Accounts: open, show, close.")
Name = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its name, as spend events say it.")]


@app.command(
    "open", epilog=example("refill account open camp-1 --organisation acme --program points --email ann@example.com")
)
def _open(
    context: typer.Context,
    name: Name,
    organisation: Annotated[str, typer.Option("--organisation", metavar="ORG", help="Whose account it is.")],
    program: Annotated[str, typer.Option("--program", metavar="P", help="Whose credit it holds.")],
    system: Annotated[
        bool, typer.Option("--system", help="The organisation's system account, for masters only.")
    ] = False,
    email: Annotated[str | None, typer.Option("--email", metavar="E", help="Where warnings go.")] = None,
    tier: Annotated[str | None, typer.Option("--tier", metavar="T", help="A tier of the program.")] = None,
) -> None:
    """Open an account. The same again changes nothing."""
    session = Session.of(context)
    with session.ledger() as connection:
        opened = account.open_account(
            connection, name, organisation, program, session.actor, is_system=system, email=email, tier=tier
        )
    kind = "System account" if opened.is_system else "Account"
    session.printer.done(
        f"{kind} {opened.name} of {opened.organisation} is open in {opened.program}.",
        {
            "account": opened.name,
            "organisation": opened.organisation,
            "program": opened.program,
            "is_system": opened.is_system,
            "email": opened.email,
            "tier": opened.tier,
        },
    )


@app.command("show", epilog=example("refill account show camp-1"))
def _show(context: typer.Context, name: Name) -> None:
    """Show an account as it stands now."""
    session = Session.of(context)
    with session.ledger() as connection:
        view = account.show(connection, name)
        in_use = card.in_use(connection, name)
        program = program_store.find(connection, view.program).program
    if session.printer.as_json:
        session.printer.record({**asdict(view), "card_fingerprint": None if in_use is None else in_use.fingerprint})
    else:
        session.printer.record(_people(view, program, in_use), title=f"Account {view.account}")


@app.command("close", epilog=example("refill account close camp-1"))
def _close(context: typer.Context, name: Name) -> None:
    """Close an account for good. Refused while it has credit or a charge is open; its name is not used again."""
    session = Session.of(context)
    with session.ledger() as connection:
        closed = account.close(connection, name, session.actor)
    session.printer.done(f"Account {closed.name} is closed.", {"account": closed.name, "closed_at": closed.closed_at})


def _people(view: AccountView, program: Program, in_use: Card | None) -> dict[str, object]:
    return {
        "organisation": view.organisation + (" (system account)" if view.is_system else ""),
        "program": view.program,
        "tier": view.tier,
        "email": view.email,
        "state": "closed" if view.closed_at else view.state,
        "balance": program.show(view.balance),
        "held": program.show(view.held) if view.held else None,
        "pending": f"{program.show(view.pending)} in an open charge" if view.pending else None,
        "next expiry": _next_expiry(view, program),
        "alert below": None if view.alert_below is None else program.show(view.alert_below),
        "recharge below": None if view.recharge_below is None else program.show(view.recharge_below),
        "card": None if in_use is None else in_use.words,
        "opened": view.opened_at,
        "closed": view.closed_at,
    }


def _next_expiry(view: AccountView, program: Program) -> str | None:
    if view.next_expiry_at is None or view.next_expiry_amount is None:
        return None
    return f"{program.show(view.next_expiry_amount)} at {shown(view.next_expiry_at)}"
