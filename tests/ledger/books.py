"""A small ledger for tests to write in: one call for each thing that a test says has happened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, NamedTuple

import pytest
from psycopg import sql

from jobs.audit import Finding, audit
from jobs.ledger.database import Connection, Params, fetch_one

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BIGINT_MAX = 2**63 - 1

SET_MIN = 12  # what refill.post_spend takes unless it is told otherwise
AS_A_SET = 1
ONE_BY_ONE = 2**31 - 1
both_ways = pytest.mark.parametrize(
    "books", [AS_A_SET, ONE_BY_ONE], indirect=True, ids=["posted as a set", "posted one by one"]
)


# Emptying takes a hundredth of the time of a new database. Whoever changes the schema uses `database` instead.
_EMPTY = """
    set session_replication_role = replica;
    do $$ declare r record; begin
        for r in select oid::regclass as t from pg_class where relnamespace = 'refill'::regnamespace and relkind = 'r'
                 and relname not in ('installation', 'migration') loop
            execute format('delete from %s', r.t);
        end loop;
        perform setval(oid, 1, false) from pg_class where relnamespace = 'refill'::regnamespace and relkind = 'S';
    end $$;
    reset session_replication_role
"""


class Spend(NamedTuple):
    """A spend event as upstream states it."""

    event_id: str
    account: str
    amount: int
    spent_at: datetime | None = None
    ref: str | None = None
    memo: str | None = None
    actor: str | None = None


class Answer(NamedTuple):
    """What the ledger says to a spend event."""

    outcome: str
    balance: int | None
    required: int
    available: int | None
    shortfall: int | None


class Books:
    """The ledger in one database. Every act takes the moment at which it happens; T0 by default.

    Batches of `set_min` events and more are posted as a set, smaller ones event by event.
    """

    def __init__(self, connection: Connection, set_min: int = SET_MIN) -> None:
        self.connection = connection
        self.set_min = set_min
        self._events = 0

    def open(
        self,
        account: str,
        program: str = "mail",
        organisation: str = "acme",
        *,
        idle_days: int | None = None,
        **columns: Any,
    ) -> int:
        """An account, with the program and the organisation that it needs; `columns` are those of refill.account."""
        kind = "none" if idle_days is None else "inactivity"
        self.run(
            "insert into refill.program (name, decimals, currency, time_zone, expiry_kind, expiry_days, terms)"
            " values (%s, 2, 'USD', 'UTC', %s, %s, '{}') on conflict do nothing",
            (program, kind, idle_days),
        )
        self.run("insert into refill.organisation (name) values (%s) on conflict do nothing", (organisation,))
        self.run(
            "insert into refill.organisation_program (organisation_id, program_id)"
            " select organisation_id, program_id from refill.organisation o, refill.program p"
            " where o.name = %s and p.name = %s on conflict do nothing",
            (organisation, program),
        )
        account_id: int = self.value(
            "insert into refill.account (name, program_id, organisation_id)"
            " select %s, program_id, organisation_id from refill.organisation o, refill.program p"
            " where o.name = %s and p.name = %s returning account_id",
            (account, organisation, program),
        )
        if columns:
            self.change(account, **columns)
        return account_id

    def change(self, account: str, **columns: Any) -> None:
        """Sets columns of an account."""
        assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in columns)
        query = sql.SQL("update refill.account set {} where name = %s").format(assignments)
        self.connection.execute(query, [*columns.values(), account])

    def grant(self, account: str, amount: int, *, expires_at: datetime | None = None, now: datetime | None = T0) -> int:
        """Promotional credit; the lot."""
        lot_id, _ = self.grants([account], [amount], expires_at=expires_at, now=now)[0]
        return lot_id

    def grants(
        self,
        accounts: Sequence[str],
        amounts: Sequence[int],
        *,
        kind: str = "promotion",
        charge_id: int | None = None,
        expires_at: datetime | None = None,
        now: datetime | None = T0,
    ) -> list[tuple[int, int]]:
        """A lot for each account in one call: lots and balances in the order of the accounts."""
        moments = ["infinity" if expires_at is None else expires_at.isoformat()] * len(accounts)
        ids = [self.account_id(name) for name in accounts]
        price = 0 if charge_id is None else 1000
        rows = self.rows(
            "select account_id, lot_id, balance from refill.post_grants(%s::bigint[], %s::bigint[], %s::timestamptz[],"
            " %s::bigint[], %s::refill.entry_kind, %s, null, null, 'tester', %s)",
            (ids, list(amounts), moments, [price] * len(ids), kind, charge_id, now),
        )
        found = {account_id: (lot_id, balance) for account_id, lot_id, balance in rows}
        return [found[account_id] for account_id in ids]

    def reserve(self, account: str, amount: int) -> int:
        """An open charge of 10.00 with one line; its id."""
        charge_id: int = self.value(
            "with charge as ("
            " insert into refill.charge (program_id, organisation_id, reason, fingerprint, payment_method, customer,"
            " currency, net_minor, tax_minor, amount_minor, opened_at, next_check_at)"
            " select program_id, organisation_id, 'purchase', 'card of ' || name, 'pm', 'cus', 'USD', 1000, 0, 1000,"
            " %(now)s, %(now)s from refill.account where name = %(account)s returning charge_id)"
            " insert into refill.charge_line (charge_id, line, account_id, credits, net_minor, tax_minor, amount_minor)"
            " select charge_id, 1, account_id, %(amount)s, 1000, 0, 1000 from charge, refill.account"
            " where name = %(account)s returning charge_id",
            {"now": T0, "account": account, "amount": amount},
        )
        return charge_id

    def buy(self, account: str, amount: int, *, expires_at: datetime | None = None, now: datetime = T0) -> int:
        """A purchase for 10.00, settled and invoiced; the paid lot."""
        with self.connection.transaction():
            charge_id = self.reserve(account, amount)
            granted = self.grants(
                [account], [amount], kind="purchase", charge_id=charge_id, expires_at=expires_at, now=now
            )
            lot_id = granted[0][0]
            self.run("update refill.charge_line set lot_id = %s where charge_id = %s", (lot_id, charge_id))
            self.run(
                "update refill.charge set state = 'succeeded', settled_at = %s where charge_id = %s", (now, charge_id)
            )
            self._invoice(charge_id)
        return lot_id

    def _invoice(self, charge_id: int) -> None:
        self.run(
            "insert into refill.invoice_counter select program_id, 2026, 1 from refill.charge where charge_id = %s"
            " on conflict (program_id, year) do update set last = invoice_counter.last + 1",
            (charge_id,),
        )
        self.run(
            "insert into refill.invoice (invoice_number, program_id, year, number, charge_id, organisation_id,"
            " issued_at, currency, net_minor, tax_minor, amount_minor, document)"
            " select p.name || '-2026-' || n.last, c.program_id, 2026, n.last, charge_id, organisation_id, %s,"
            " c.currency, net_minor, tax_minor, amount_minor, '{}' from refill.charge c"
            " join refill.program p using (program_id) join refill.invoice_counter n using (program_id)"
            " where charge_id = %s",
            (T0, charge_id),
        )

    def post(self, *spends: Spend, now: datetime | None = T0) -> list[Answer]:
        """A batch; one answer for each event, in order."""
        return post(self.connection, spends, now, self.set_min)

    def spend(self, account: str, amount: int, event_id: str | None = None, *, now: datetime | None = T0) -> Answer:
        """One event, with an id of its own unless one is given."""
        self._events += 1
        return self.post(Spend(event_id or f"event-{self._events}", account, amount), now=now)[0]

    def expire(self, *accounts: str, now: datetime) -> tuple[int, int]:
        """Books what is dead on the accounts: lots and credits."""
        with self.connection.transaction():
            ids = [self.account_id(name) for name in accounts]
            self.run("select refill.lock_accounts(%s::bigint[])", (ids,))
            lots, lost = fetch_one(self.connection, "select * from refill.expire_due(%s::bigint[], %s)", (ids, now))
        return lots, lost

    def account_id(self, account: str) -> int:
        found: int = self.value("select account_id from refill.account where name = %s", (account,))
        return found

    def balance(self, account: str) -> int:
        """What the account's row says, expired or not."""
        balance: int = self.value("select balance from refill.account where name = %s", (account,))
        return balance

    def remaining(self, account: str) -> dict[int, int]:
        """What each lot of the account has left."""
        query: LiteralString = "select lot_id, remaining from refill.lot where account_id = %s order by lot_id"
        return dict(self.rows(query, (self.account_id(account),)))

    def entries(self, account: str, kind: str = "spend") -> list[tuple[int, int, int]]:
        """Lot, amount and balance after of each entry that took credit from the account, in order."""
        return self.rows(
            "select lot_id, amount, from_balance from refill.entry where from_side = %s and kind::text = %s"
            " order by entry_id",
            (self.account_id(account), kind),
        )

    def events(self, account: str) -> list[str]:
        """The types of what happened to the account, in order."""
        query: LiteralString = "select type from refill.event_log where account_id = %s order by event_log_id"
        return [row[0] for row in self.rows(query, (self.account_id(account),))]

    def messages(self, account: str) -> list[str]:
        """The kinds of the messages to the account, in order."""
        query: LiteralString = "select kind from refill.message where account_id = %s order by created_at, kind"
        return [row[0] for row in self.rows(query, (self.account_id(account),))]

    def is_watched(self, account: str) -> bool:
        watched: bool = self.value(
            "select exists (select from refill.watch where account_id = %s)", (self.account_id(account),)
        )
        return watched

    def audit(self, now: datetime | None = None) -> list[Finding]:
        return audit(self.connection, now)

    def run(self, query: LiteralString | bytes, params: Params | None = None) -> None:
        self.connection.execute(query, params)

    def rows(self, query: LiteralString, params: Params | None = None) -> list[Any]:
        return self.connection.execute(query, params).fetchall()

    def value(self, query: LiteralString, params: Params | None = None) -> Any:
        return fetch_one(self.connection, query, params)[0]


def post(
    connection: Connection, spends: Sequence[Spend], now: datetime | None = None, set_min: int = SET_MIN
) -> list[Answer]:
    """Posts a batch on any connection; one answer for each event, in order."""
    columns = [list(column) for column in zip(*spends, strict=True)]
    rows = connection.execute(
        "select outcome::text, balance, required, available, shortfall from refill.post_spend(%s::text[], %s::text[],"
        " %s::bigint[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::timestamptz, %s) order by ord",
        [*columns, now, set_min],
    ).fetchall()
    return [Answer(*row) for row in rows]


def empty(connection: Connection) -> None:
    """Takes everything out of the ledger and counts from 1 again, past the triggers."""
    connection.execute(_EMPTY)
