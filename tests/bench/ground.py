"""What every benchmark stands on: servers as `refill up` starts them, a ledger, and figures in one form."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis
from rich.console import Console
from rich.table import Table

from jobs.audit import audit
from jobs.ledger.database import connect, migrate
from tests.support.databases import database_url, make_database
from tests.support.seed import load_examples
from worker.embedded.postgres import Postgres
from worker.embedded.redis import Redis
from worker.embedded.server import running

RESULTS = Path("build") / "bench"
RUNS = 3
LOT_CREDITS = 1_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    accounts: int
    events: int
    baseline_s: float


SIZES = {"small": Size(10_000, 50_000, 3.0), "full": Size(100_000, 500_000, 10.0)}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number: the median of its runs, and how many times the baseline of the same run it is."""

    name: str
    per_second: float
    runs: Sequence[float]
    baseline: str = ""
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """Running servers, and a way to a fresh ledger on them."""

    server_url: str
    redis_url: str
    accounts: int

    def ledger(self, name: str) -> str:
        """The URL of a fresh copy of the filled ledger."""
        return make_database(self.server_url, name, _TEMPLATE)

    def drop(self, name: str) -> None:
        """Removes a ledger, so that the next one has the same room."""
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)".encode())
            connection.execute("checkpoint")


_TEMPLATE = "bench_template"


@contextmanager
def ground(accounts: int) -> Iterator[Ground]:
    """Servers with the settings of `refill up`, and a ledger of so many accounts with two lots each."""
    with tempfile.TemporaryDirectory(prefix="refill-bench-", ignore_cleanup_errors=True) as directory:
        postgres, redis_server = Postgres(Path(directory)), Redis(Path(directory))
        with running(postgres), running(redis_server):
            server_url = database_url(postgres.url, "postgres")
            fill(make_database(server_url, _TEMPLATE), accounts)
            yield Ground(server_url, redis_server.url, accounts)


def fill(url: str, accounts: int) -> None:
    """Accounts `account-1` to `account-N` of the program points, with two lots of credit each."""
    migrate(url)
    with connect(url) as connection:
        load_examples(connection)
        connection.execute(
            "insert into refill.account (program_id, organisation_id, name)"
            " select program_id, organisation_id, 'account-' || number"
            " from refill.program p, refill.organisation, generate_series(1, %s) number where p.name = 'points'",
            (accounts,),
        )
        for _ in range(2):
            connection.execute(
                "select count(*) from (select array_agg(account_id) as ids, count(*)::int as n from refill.account) a,"
                " refill.post_grants(a.ids, array_fill(%s::bigint, array[a.n]),"
                " array_fill('infinity'::timestamptz, array[a.n]), array_fill(0::bigint, array[a.n]), 'promotion',"
                " null, null, null, 'bench')",
                (LOT_CREDITS,),
            )
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def prove(url: str, accounts: int, spent: int) -> None:
    """Every identity of the ledger holds, and exactly so much is gone. Raises AssertionError."""
    with connect(url) as connection:
        connection.execute("analyze")  # as autovacuum would have by the time that somebody audits
        (left,) = connection.execute("select sum(balance) from refill.account").fetchall()[0]
        assert left == accounts * 2 * LOT_CREDITS - spent, f"{left} credits are left"
        findings = audit(connection)
        assert findings == [], findings


def open_stream(url: str) -> redis.Redis:
    """A client for the stream."""
    return redis.Redis.from_url(url, protocol=2)


def report(program: str, size: str, figures: Sequence[Figure]) -> None:
    """The figures as a table, and as JSON under build/bench."""
    load = [round(value, 2) for value in os.getloadavg()]
    table = Table(title=f"{program}, size {size}, load average {load}")
    for heading in ("figure", "per second", "runs", "baseline", "ratio"):
        table.add_column(heading)
    for one in figures:
        runs = " ".join(f"{value:,.0f}" for value in one.runs)
        ratio = "" if one.ratio is None else f"{one.ratio:.1f} ×"
        table.add_row(one.name, f"{one.per_second:,.0f}", runs, one.baseline, ratio)
    Console().print(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "program": program,
        "size": size,
        "load": load,
        "figures": [asdict(one) for one in figures],
    }
    (RESULTS / f"{program}.json").write_text(json.dumps(result, indent=2) + "\n")


def figure(name: str, runs: Sequence[float], baseline: Figure | None = None) -> Figure:
    """The median of the runs, compared with a baseline where there is one."""
    median = statistics.median(runs)
    if baseline is None:
        return Figure(name, median, runs)
    return Figure(name, median, runs, baseline.name, median / baseline.per_second)
