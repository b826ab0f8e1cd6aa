"""Invoices: one for each settled charge, immutable, numbered without gaps per program and year."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb

from jobs.ledger.database import Connection, fetch_one
from jobs.program import Program


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """What one account bought: credits in the smallest unit, money in minor units, `gross` = `net` + `tax`."""

    account: str
    credits: int
    net: int
    tax: int
    gross: int


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who bought, by which charge, under which tax: its name and rate when the amounts were computed, or None."""

    charge_id: int
    organisation: str
    tax: dict[str, str] | None


def issue(connection: Connection, buyer: Buyer, program: Program, lines: list[InvoiceLine], now: datetime) -> str:
    """Writes the invoice of a charge in the transaction that settles it, and returns its number.

    The counter's row stays locked until that transaction ends: a number is given only with the invoice that bears it,
    so there are no gaps. The year is that of the program's time zone.
    """
    year = now.astimezone(ZoneInfo(program.time_zone)).year
    program_id, organisation_id, number = fetch_one(
        connection,
        """
        insert into refill.invoice_counter (program_id, year, last)
        select program_id, %(year)s, 1 from refill.charge where charge_id = %(charge_id)s
        on conflict (program_id, year) do update set last = invoice_counter.last + 1
        returning program_id, (select organisation_id from refill.charge where charge_id = %(charge_id)s), last
        """,
        {"year": year, "charge_id": buyer.charge_id},
    )
    invoice_number = f"{program.name.upper()}-{year}-{number:06d}"
    connection.execute(
        """
        insert into refill.invoice (invoice_number, program_id, year, number, charge_id, organisation_id, issued_at,
                                    currency, net_minor, tax_minor, amount_minor, document)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            invoice_number,
            program_id,
            year,
            number,
            buyer.charge_id,
            organisation_id,
            now,
            program.currency,
            sum(line.net for line in lines),
            sum(line.tax for line in lines),
            sum(line.gross for line in lines),
            Jsonb(_document(program, buyer, lines)),
        ),
    )
    return invoice_number


def _document(program: Program, buyer: Buyer, lines: list[InvoiceLine]) -> dict[str, object]:
    """What the invoice says, as it was on its day: later changes of the program do not reach it."""
    return {
        "seller": program.seller.model_dump(mode="json"),
        "buyer": buyer.organisation,
        "tax": buyer.tax,
        "lines": [
            {
                "account": line.account,
                "credits": line.credits,
                "description": program.show(line.credits),
                "net_minor": line.net,
                "tax_minor": line.tax,
                "amount_minor": line.gross,
            }
            for line in lines
        ],
    }
