"""What every benchmark stands on: servers as `refill up` starts them, and a ledger with accounts that hold credit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import redis

from jobs.ledger.database import connect, migrate
from tests.support.databases import database_url, make_database
from tests.support.seed import load_examples
from worker.embedded.postgres import Postgres
from worker.embedded.redis import Redis
from worker.embedded.server import running

LOTS = 2
LOT_CREDITS = 1_000_000

_TEMPLATE = "bench_template"


@dataclass(frozen=True, slots=True)
class Ground:
    """Running servers, and a way to a fresh ledger on them."""

    server_url: str
    redis_url: str
    accounts: int
    lot_credits: int = LOT_CREDITS

    @property
    def held(self) -> int:
        """The credits that the accounts of a fresh ledger hold together."""
        return self.accounts * LOTS * self.lot_credits

    def ledger(self, name: str) -> str:
        """The URL of a fresh copy of the filled ledger."""
        return make_database(self.server_url, name, _TEMPLATE)

    def drop(self, name: str) -> None:
        """Removes a ledger, so that the next one has the same room."""
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)".encode())
            connection.execute("checkpoint")


@contextmanager
def ground(
    accounts: int,
    configuration: Mapping[str, str] | None = None,
    granted_ago: timedelta = timedelta(),
    lot_credits: int = LOT_CREDITS,
) -> Iterator[Ground]:
    """Servers, and a template of a ledger of so many accounts. `configuration` adds to the server's settings."""
    with tempfile.TemporaryDirectory(prefix="refill-bench-", ignore_cleanup_errors=True) as directory:
        postgres = Postgres(Path(directory), configuration=configuration)
        redis_server = Redis(Path(directory))
        with running(postgres), running(redis_server):
            server_url = database_url(postgres.url, "postgres")
            fill(make_database(server_url, _TEMPLATE), accounts, granted_ago, lot_credits)
            yield Ground(server_url, redis_server.url, accounts, lot_credits)


def fill(url: str, accounts: int, granted_ago: timedelta = timedelta(), lot_credits: int = LOT_CREDITS) -> None:
    """Accounts `account-1` to `account-N` of the program points, with LOTS lots of credit each."""
    migrate(url)
    with connect(url) as connection:
        load_examples(connection)
        connection.execute(
            "insert into refill.account (program_id, organisation_id, name)"
            " select program_id, organisation_id, 'account-' || number"
            " from refill.program p, refill.organisation, generate_series(1, %s) number where p.name = 'points'",
            (accounts,),
        )
        for _ in range(LOTS):
            connection.execute(
                "select count(*) from (select array_agg(account_id) as ids, count(*)::int as n from refill.account) a,"
                " refill.post_grants(a.ids, array_fill(%s::bigint, array[a.n]),"
                " array_fill('infinity'::timestamptz, array[a.n]), array_fill(0::bigint, array[a.n]), 'promotion',"
                " null, null, null, 'bench', now() - %s)",
                (lot_credits, granted_ago),
            )
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def open_stream(url: str) -> redis.Redis:
    """A client for the stream."""
    return redis.Redis.from_url(url, protocol=2)
