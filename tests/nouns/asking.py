"""Short questions to the ledger."""

from __future__ import annotations

from typing import Any, LiteralString

from jobs.ledger.database import Connection, fetch_one


def value(connection: Connection, query: LiteralString, *params: object) -> Any:
    """The one value of a query."""
    return fetch_one(connection, query, params)[0]


def is_watched(connection: Connection, account: str) -> bool:
    """Whether the sweep will look at the account."""
    found: bool = value(
        connection,
        "select exists (select from refill.watch w join refill.account a using (account_id) where a.name = %s)",
        account,
    )
    return found


def forget_watches(connection: Connection) -> None:
    """As after a sweep that had nothing to do."""
    connection.execute("delete from refill.watch")


def levels(connection: Connection, account: str) -> tuple[int | None, int | None]:
    """The alert level and the trigger that a posting sees."""
    alert_below, recharge_below = fetch_one(
        connection, "select alert_below, recharge_below from refill.account where name = %s", (account,)
    )
    return alert_below, recharge_below
