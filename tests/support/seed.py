"""A ledger with something in it, for tests of what runs on it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import LiteralString

from jobs.ledger.database import Connection, fetch_one
from jobs.program import example_programs


def load_examples(connection: Connection) -> None:
    """The three example programs and one organisation that may use them all."""
    for program in example_programs():
        connection.execute(
            "insert into refill.program (name, decimals, currency, time_zone, expiry_kind, expiry_days, terms)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            (
                program.name,
                program.decimals,
                program.currency,
                program.time_zone,
                program.expiry.kind,
                program.expiry.days,
                program.to_json(),
            ),
        )
    connection.execute("insert into refill.organisation (name) values ('acme')")
    connection.execute(
        "insert into refill.organisation_program"
        " select organisation_id, program_id from refill.organisation, refill.program"
    )


def open_account(
    connection: Connection,
    name: str,
    program: str = "points",
    *,
    email: str | None = None,
    alert_below: int | None = None,
    recharge_below: int | None = None,
) -> int:
    """An empty account of the organisation; its id."""
    row = fetch_one(
        connection,
        "insert into refill.account (program_id, organisation_id, name, email, alert_below, recharge_below)"
        " select program_id, organisation_id, %s, %s, %s, %s from refill.program p, refill.organisation"
        " where p.name = %s returning account_id",
        (name, email, alert_below, recharge_below, program),
    )
    return int(row[0])


def grant(
    connection: Connection, account_id: int, amount: int, expires_at: str = "infinity", now: datetime | None = None
) -> int:
    """Promotional credit; the id of its lot."""
    row = fetch_one(
        connection,
        "select lot_id from refill.post_grants(%s, %s, %s::timestamptz[], %s, 'promotion', null, null, 'test', 'test',"
        " %s)",
        ([account_id], [amount], [expires_at], [0], now),
    )
    return int(row[0])


def spend(connection: Connection, account: str, amount: int, event_id: str, now: datetime | None = None) -> str:
    """One spend event; its outcome."""
    row = fetch_one(
        connection,
        "select outcome::text from refill.post_spend(%s, %s, %s, array[null::timestamptz], array[null::text],"
        " array[null::text], array[null::text], %s)",
        ([event_id], [account], [amount], now),
    )
    return str(row[0])


def count(connection: Connection, query: LiteralString, params: Iterable[object] = ()) -> int:
    """The number that a query gives."""
    return int(fetch_one(connection, query, list(params))[0])
