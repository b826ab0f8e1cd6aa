"""The baseline: the ledger that one would write first, one transaction for each event, in Python with psycopg.

It locks the account's row, takes the amount from the oldest lot that has it, lowers the balance, and inserts an entry
whose primary key is the event's id. No expiry, no outcomes, no second lot.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time

import psycopg

CLIENTS = 8

_SCHEMA = """
    create schema naive;
    create table naive.account (account_id bigint primary key, name text unique, balance bigint) with (fillfactor = 70);
    create table naive.lot (lot_id bigint primary key, account_id bigint, remaining bigint) with (fillfactor = 70);
    create index on naive.lot (account_id);
    create table naive.entry (event_id text primary key, account_id bigint, lot_id bigint, amount bigint,
                              balance_after bigint, at timestamptz default now());
    insert into naive.account select account_id, name, balance from refill.account;
    insert into naive.lot select lot_id, account_id, remaining from refill.lot;
"""


def naive_per_second(url: str, accounts: int, seconds: float) -> float:
    """How many events a second eight clients post."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_SCHEMA)
        connection.execute("vacuum analyze naive.account, naive.lot")
    command = [sys.executable, "-m", "tests.bench.naive", url, str(accounts), str(seconds)]
    clients = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(CLIENTS)
    ]
    try:
        return sum(float(client.communicate()[0]) for client in clients)
    finally:
        for client in clients:
            client.kill()


def client_per_second(url: str, accounts: int, seconds: float, number: int) -> float:
    """How many events a second this one client posts."""
    draw, count = random.Random(number), 0
    with psycopg.connect(url) as connection:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            _post(connection, f"{number}-{count}", f"account-{draw.randint(1, accounts)}", draw.randint(1, 100))
            count += 1
        return count / (time.monotonic() - began)


def _post(connection: psycopg.Connection, event_id: str, account: str, amount: int) -> None:
    with connection.transaction():
        account_id, balance = connection.execute(
            "select account_id, balance from naive.account where name = %s for update", (account,)
        ).fetchall()[0]
        ((lot_id,),) = connection.execute(
            "update naive.lot set remaining = remaining - %(amount)s where lot_id = (select lot_id from naive.lot"
            " where account_id = %(account)s and remaining >= %(amount)s order by lot_id limit 1) returning lot_id",
            {"amount": amount, "account": account_id},
        ).fetchall()
        connection.execute(
            "update naive.account set balance = balance - %s where account_id = %s", (amount, account_id)
        )
        connection.execute(
            "insert into naive.entry (event_id, account_id, lot_id, amount, balance_after) values (%s, %s, %s, %s, %s)",
            (event_id, account_id, lot_id, amount, balance - amount),
        )


if __name__ == "__main__":
    print(client_per_second(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))  # noqa: T201
