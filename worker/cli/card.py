"""`refill card add | list | block | unblock`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs import card
from jobs.card import Card, CardState
from jobs.gateway.sandbox.cards import NAMED
from worker.cli.parts import Session, example, group
from worker.console import Column, shown

app = group("Cards: save, list, block, unblock.")
Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose card it is.")]
Fingerprint = Annotated[str, typer.Argument(metavar="FINGERPRINT", help="The physical card, as `card list` shows it.")]


@app.command(
    "add", epilog=example("refill card add camp-1 --payment-method pm_1Qx...", "refill card add camp-1 --test-card ok")
)
def _add(
    context: typer.Context,
    account: Account,
    payment_method: Annotated[
        str | None, typer.Option("--payment-method", metavar="PM", help="A payment method of the processor.")
    ] = None,
    test_card: Annotated[
        str | None,
        typer.Option(
            "--test-card",
            metavar="NAME",
            help=f"A card of the sandbox: {', '.join(NAMED)}; ok:2 is another card that behaves like ok.",
        ),
    ] = None,
) -> None:
    """Save a card for an account, in the place of the one before."""
    session = Session.of(context)
    with session.ledger() as connection:
        added = card.add(
            connection,
            session.gateway(),
            account,
            session.actor,
            payment_method=payment_method,
            test_card=test_card,
        )
    session.printer.done(f"{account} now pays with {added.words} ({added.fingerprint}).", asdict(added))


@app.command("list", epilog=example("refill card list camp-1"))
def _list(context: typer.Context, account: Account) -> None:
    """List the cards of an account, the one in use first."""
    session = Session.of(context)
    with session.ledger() as connection:
        cards = card.list_cards(connection, account)
    session.printer.rows(
        (
            Column("card", "Card"),
            Column("fingerprint", "Fingerprint"),
            Column("status", "Status"),
            Column("added_at", "Added"),
            Column("added_by", "By"),
        ),
        [{**asdict(one), "card": one.words, "status": _status(one)} for one in cards],
        empty=f"No card is saved for {account}; `refill card add {account}` saves one.",
    )


@app.command("block", epilog=example("refill card block fp_1a2b3c"))
def _block(context: typer.Context, fingerprint: Fingerprint) -> None:
    """Stop a physical card on all accounts until it is unblocked."""
    session = Session.of(context)
    with session.ledger() as connection:
        state = card.block(connection, fingerprint, session.actor)
    session.printer.done(
        f"The card {fingerprint} is stopped on {_accounts(state)}: {state.stop_reason}.", asdict(state)
    )


@app.command("unblock", epilog=example("refill card unblock fp_1a2b3c"))
def _unblock(context: typer.Context, fingerprint: Fingerprint) -> None:
    """Let a physical card be tried again on all accounts. Refused where the card network forbids it for ever."""
    session = Session.of(context)
    with session.ledger() as connection:
        state = card.unblock(connection, fingerprint, session.actor)
    session.printer.done(f"The card {fingerprint} may be tried again on {_accounts(state)}.", asdict(state))


def _status(one: Card) -> str:
    if one.removed_at is not None:
        return f"replaced {shown(one.removed_at)}"
    if one.stop is not None:
        return f"stopped: {one.stop_reason}"
    return "in use" if one.not_before is None else f"rests until {shown(one.not_before)}"


def _accounts(state: CardState) -> str:
    return "1 account" if state.accounts == 1 else f"{state.accounts} accounts"
