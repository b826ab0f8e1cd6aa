"""`refill program load | list | show`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import program_store
from jobs.money import Money, format_money
from jobs.policy import PolicySettings, effective_policy
from jobs.program import Program, load_program
from worker.cli.parts import Session, example, group
from worker.cli.policy_words import settings_words
from worker.console import Column

app = group("Programs: what credit is on sale, on which terms.")


@app.command("load", epilog=example("refill program load config/programs/points.toml"))
def _load(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE.toml...", help="Program files.")],
) -> None:
    """Load programs, or their changed terms, from files. All are read before one is loaded; again changes nothing."""
    session = Session.of(context)
    programs = [load_program(file) for file in files]
    with session.ledger() as connection, connection.transaction():
        results = [(program, program_store.load(connection, program, session.actor)) for program in programs]
    for program, result in results:
        session.printer.done(
            f"Program {program.name} ({program.title}): {result}.", {"program": program.name, "result": result}
        )


@app.command("list", epilog=example("refill program list"))
def _list(context: typer.Context) -> None:
    """List the programs that are loaded."""
    session = Session.of(context)
    with session.ledger() as connection:
        programs = [stored.program for stored in program_store.list_programs(connection)]
    session.printer.rows(
        (
            Column("program", "Program"),
            Column("title", "Title"),
            Column("currency", "Currency"),
            Column("price", "Price"),
            Column("expires", "Expires"),
            Column("tiers", "Tiers"),
        ),
        [_row(program) for program in programs],
        empty="No program is loaded; `refill program load FILE.toml` loads one.",
    )


@app.command("show", epilog=example("refill program show points"))
def _show(context: typer.Context, name: Annotated[str, typer.Argument(metavar="PROGRAM", help="Its name.")]) -> None:
    """Show the terms of one program; with --json all of them, as its file says them."""
    session = Session.of(context)
    with session.ledger() as connection:
        program = program_store.find(connection, name).program
    if session.printer.as_json:
        session.printer.record(program.model_dump(mode="json", by_alias=True, exclude_none=True))
        return
    session.printer.record(_terms(program), title=f"Program {program.name}")
    for tier in program.tiers:
        session.printer.record(_tier(program, tier), title=f"Tier {tier} of {program.name}")


def _row(program: Program) -> dict[str, object]:
    return {
        "program": program.name,
        "title": program.title,
        "currency": program.currency,
        "decimals": program.decimals,
        "price": _price_range(program),
        "expires": _expiry(program),
        "tiers": list(program.tiers),
    }


def _terms(program: Program) -> dict[str, object]:
    return {
        "title": program.title,
        "unit": f"{program.show(1)} is the smallest amount" if program.decimals else f"whole {program.unit.plural}",
        "currency": program.currency,
        "price": _prices(program),
        "tax": None if program.tax is None else f"{program.tax.name} {program.tax.rate} % on top",
        "minimum charge": _money(program.minimum_charge_money()),
        "sells": "any amount" if program.sells == "any" else "packs only",
        "smallest purchase": program.show(program.smallest_purchase) if program.sells == "any" else None,
        "packs": _amounts(program, program.packs),
        "recharge amounts": _unless_packs(program),
        "expires": _expiry(program),
        "time zone": program.time_zone,
        "balances": program.organisations.balance,
        **settings_words(program, effective_policy(program, None, PolicySettings()), only_set=True),
        "seller": program.seller.name,
    }


def _tier(program: Program, tier: str) -> dict[str, object]:
    rules = program.tiers[tier]
    return {
        "card": "the manager's" if rules.bills == "manager" else "the account's own",
        **settings_words(program, effective_policy(program, tier, PolicySettings()), only_set=True),
        "locked": ", ".join(name.replace("_", " ") for name in rules.locked) or None,
    }


def _prices(program: Program) -> str:
    (_, first_price), *steps = program.price.steps()
    cheaper = [f"from {_number(program, first)} at {unit_price.normalize():f}" for first, unit_price in steps]
    return ", ".join([f"{first_price.normalize():f} {program.currency} per {program.unit.singular}", *cheaper])


def _price_range(program: Program) -> str:
    prices = sorted({unit_price for _, unit_price in program.price.steps()})
    span = " to ".join(f"{unit_price.normalize():f}" for unit_price in dict.fromkeys([prices[0], prices[-1]]))
    return f"{span} {program.currency} per {program.unit.singular}"


def _number(program: Program, amount: int) -> str:
    return program.show(amount).split(" ", 1)[0]


def _unless_packs(program: Program) -> str:
    if program.recharge_amounts == program.packs:
        return "the packs"
    return _amounts(program, program.recharge_amounts)


def _amounts(program: Program, amounts: tuple[int, ...]) -> str:
    """``10, 25 and 1,000 points``: the unit is said once."""
    numbers = [_number(program, amount) for amount in amounts[:-1]]
    return " and ".join(filter(None, [", ".join(numbers), program.show(amounts[-1])]))


def _expiry(program: Program) -> str:
    match program.expiry.kind:
        case "none":
            return "never"
        case "fixed":
            return f"{program.expiry.days} days after purchase"
        case "inactivity":
            return f"after {program.expiry.days} days without spend or purchase"


def _money(money: Money | None) -> str | None:
    return None if money is None else format_money(money)
