"""`refill policy set | show`"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from jobs import account as accounts
from jobs import policy_store, program_store
from jobs.errors import Malformed
from jobs.ledger.database import Connection
from jobs.money import Money, parse_amount, parse_money
from jobs.policy import EffectivePolicy, PolicySettings
from jobs.policy_store import PolicyView
from worker.cli.parts import Session, example, group
from worker.cli.policy_words import FIELDS, setting_of, words
from worker.console import Column

app = group("Policies: when to warn and when to recharge.")
Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose policy it is.")]


@app.command(
    "set", epilog=example("refill policy set camp-1 --recharge-below 500 --amount 1000 --cap-month '200.00 USD' --on")
)
def _set(
    context: typer.Context,
    account: Account,
    alert_below: Annotated[
        str | None, typer.Option("--alert-below", metavar="N", help="Mail below this balance.")
    ] = None,
    recharge_below: Annotated[
        str | None, typer.Option("--recharge-below", metavar="N", help="Recharge below this balance.")
    ] = None,
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="N", help="What one recharge buys, from the program's list.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="N", help="Instead: fill up to this.")] = None,
    cap_month: Annotated[
        str | None, typer.Option("--cap-month", metavar="MONEY", help="The most per calendar month, tax included.")
    ] = None,
    cap_day: Annotated[str | None, typer.Option("--cap-day", metavar="MONEY", help="The most per day.")] = None,
    on: Annotated[
        bool | None, typer.Option("--on/--off", help="Switch recharge on or off.", show_default=False)
    ] = None,
) -> None:
    """Set what is given and leave the rest; it takes effect at once. Who set what, and what was shown, is kept."""
    session = Session.of(context)
    levels = PolicySettings(_amount(alert_below), _amount(recharge_below), _amount(amount), _amount(target), enabled=on)
    with session.ledger() as connection:
        wanted = replace(
            levels, cap_month=_money(connection, account, cap_month), cap_day=_money(connection, account, cap_day)
        )
        if wanted == PolicySettings():
            raise Malformed("nothing is given to be set; `refill policy set --help` lists what can be")
        view = policy_store.set_policy(connection, account, wanted, session.actor)
    _print(session, view)


@app.command("show", epilog=example("refill policy show camp-1"))
def _show(context: typer.Context, account: Account) -> None:
    """Show the policy in effect, and where each setting comes from."""
    session = Session.of(context)
    with session.ledger() as connection:
        view = policy_store.show(connection, account)
    _print(session, view)


def _amount(text: str | None) -> int | None:
    return None if text is None else parse_amount(text)


def _money(connection: Connection, account: str, text: str | None) -> Money | None:
    if text is None:
        return None
    return parse_money(
        text, program_store.find(connection, accounts.find(connection, account).program).program.currency
    )


def _print(session: Session, view: PolicyView) -> None:
    if session.printer.as_json:
        session.printer.record(_plain(view))
        return
    session.printer.rows(
        (Column("setting", "Setting"), Column("value", "Value", "right"), Column("source", "From")),
        [_row(view, name) for name in FIELDS],
        title=f"Policy of {view.account} ({view.program.name}{f', tier {view.tier}' if view.tier else ''})",
    )
    for sentence in view.terms:
        session.printer.done(sentence, {})


def _row(view: PolicyView, name: str) -> dict[str, object]:
    setting = setting_of(view.effective, name)
    origin = f"{setting.source}{' (locked)' if setting.locked else ''}" if setting.value is not None else ""
    label = "recharge" if name == "enabled" else name.replace("_", " ")
    return {"setting": label, "value": words(view.program, setting.value) or "not set", "source": origin}


def _plain(view: PolicyView) -> dict[str, object]:
    head = {"account": view.account, "program": view.program.name, "tier": view.tier, "currency": view.program.currency}
    settings = {name: _plain_setting(view.effective, name) for name in FIELDS}
    return {**head, "bills": view.effective.bills, **settings, "terms": list(view.terms)}


def _plain_setting(policy: EffectivePolicy, name: str) -> dict[str, object]:
    setting = setting_of(policy, name)
    value = setting.value.minor if isinstance(setting.value, Money) else setting.value
    return {"value": value, "source": setting.source, "locked": setting.locked}
