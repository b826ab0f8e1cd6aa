"""`refill spend`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs import account as accounts
from jobs import program_store
from jobs.errors import AccountClosed, Conflict, InsufficientCredit, RefillError, UnknownAccount
from jobs.ledger.database import Connection
from jobs.money import parse_amount
from jobs.program import Program
from jobs.spend import Outcome, post_one
from worker.cli.parts import Session, example, single

app = single()


@app.command("spend", epilog=example("refill spend camp-1 120 --id order-4711 --ref invoice-12"))
def _spend(
    context: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Who used credit.")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Credits in the program's smallest unit.")],
    event_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Upstream's own id of the event, 1 to 64 characters.")
    ],
    ref: Annotated[str | None, typer.Option("--ref", metavar="REF", help="What it was for, by its id.")] = None,
    memo: Annotated[str | None, typer.Option("--memo", metavar="TEXT", help="What it was for, in words.")] = None,
) -> None:
    """Post one spend event, all or nothing. The same event again has the same outcome and posts nothing."""
    session = Session.of(context)
    wanted = parse_amount(amount)
    with session.ledger() as connection:
        outcome = post_one(connection, event_id, account, wanted, ref, memo)
        if session.printer.as_json:
            session.printer.record(asdict(outcome))
        if outcome.outcome in ("unknown_account", "conflict", "account_closed"):
            raise _refusal(outcome)
        program = _program_of(connection, account)
    if outcome.outcome != "accepted":
        raise _shortfall(outcome, program)
    if not session.printer.as_json:
        session.printer.done(
            f"Accepted: {account} spent {program.show(wanted)}; the balance is {program.show(outcome.balance or 0)}.",
            {},
        )


def _program_of(connection: Connection, account: str) -> Program:
    return program_store.find(connection, accounts.find(connection, account).program).program


def _refusal(outcome: Outcome) -> RefillError:
    match outcome.outcome:
        case "unknown_account":
            return UnknownAccount(f"No account is named {outcome.account!r}.", account=outcome.account)
        case "account_closed":
            return AccountClosed(f"The account {outcome.account} is closed.", account=outcome.account)
        case _:
            return Conflict(
                f"The event id {outcome.event_id} was used before with other content.", event_id=outcome.event_id
            )


def _shortfall(outcome: Outcome, program: Program) -> InsufficientCredit:
    missing, available = outcome.shortfall or 0, outcome.available or 0
    return InsufficientCredit(
        f"{outcome.account} has {program.show(available)} and needs {program.show(outcome.required)}:"
        f" {program.show(missing)} are missing.",
        account=outcome.account,
        required=outcome.required,
        available=available,
        shortfall=missing,
    )
