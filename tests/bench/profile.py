"""Where the time of Postgres goes while F1 drains or F3 spends: every statement, those inside functions too.

    python -m tests.bench.profile f1|f3 [--size small|full]

Then one batch, or one spend, is posted once more with its plan kept in `build/bench/PROGRAM.plan.txt`: how long each
node took, with its rows, loops, buffers and triggers. Being looked at costs a little, so the figures themselves are
measured without.
"""

from __future__ import annotations

import argparse
import logging
import sys
import uuid
from collections.abc import Sequence
from typing import Any, LiteralString

import structlog
from rich import box
from rich.console import Console
from rich.table import Table

from jobs.ledger.database import Connection, connect
from jobs.spend import SpendEvent, post, prepare_connection
from tests.bench.backlog import Backlog
from tests.bench.f1_drain import uniform
from tests.bench.f3_spend_function import CLIENTS, spend_load
from tests.bench.ground import Ground, ground
from tests.bench.report import RESULTS, WIDTH
from tests.bench.sizes import SIZES, Size

_SERVER = {
    "shared_preload_libraries": "pg_stat_statements, auto_explain",
    "pg_stat_statements.track": "all",
    "track_io_timing": "on",
}
_STATEMENTS: LiteralString = """
    select toplevel, calls, total_exec_time, mean_exec_time, rows, shared_blks_hit + shared_blks_read, wal_bytes, query
    from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database())
    order by total_exec_time desc limit 15
"""
_EXPLAIN: LiteralString = """
    set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on; set auto_explain.log_buffers = on;
    set auto_explain.log_wal = on; set auto_explain.log_triggers = on; set auto_explain.log_nested_statements = on;
    set auto_explain.log_level = notice; set auto_explain.log_parameter_max_length = 60
"""
_BATCH = 5_000
_QUERY_SHOWN = 42
_LINE_KEPT = 240
_WARM_UPS = 6  # after five executions a session settles on its plans


def profile(program: str, size: Size) -> None:
    """Runs the load of the program once under observation."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with ground(size.accounts, _SERVER) as place:
        url = place.ledger("profile")
        with connect(url) as connection:
            connection.execute("create extension pg_stat_statements")
            connection.execute("select pg_stat_statements_reset()")
            events = _load(program, place, url, size)
            _show(program, connection.execute(_STATEMENTS).fetchall(), events)
        _keep_plan(program, url, size)


def _load(program: str, place: Ground, url: str, size: Size) -> int:
    """How many events were posted."""
    if program == "f3":
        return spend_load(place, url, size).transactions
    Backlog(place.redis_url, uniform(size.events, size.accounts)).drain(place, url, intakes=1)
    return size.events


def _show(program: str, statements: Sequence[Sequence[Any]], events: int) -> None:
    """Times, blocks and bytes of WAL per event; those of a statement hold those of the indented ones inside it."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=f"{program}: {events:,} events, costs for each", title_justify="left"
    )
    for heading in ("µs", "calls", "ms each", "rows", "blocks", "WAL"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("statement", no_wrap=True)
    for is_outer, calls, total_ms, mean_ms, rows, blocks, wal_bytes, query in statements:
        words = " ".join(query.split())[:_QUERY_SHOWN]
        cells = (
            f"{total_ms * 1_000 / events:.2f}",
            f"{calls:,}",
            f"{mean_ms:.3f}",
            f"{rows:,}",
            f"{blocks / events:.1f}",
            f"{int(wal_bytes) / events:.0f}",
        )
        table.add_row(*cells, words if is_outer else f"  {words}")
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def _keep_plan(program: str, url: str, size: Size) -> None:
    path = RESULTS / f"{program}.plan.txt"
    RESULTS.mkdir(parents=True, exist_ok=True)
    with connect(url) as connection:
        plans: list[str] = []
        for run in range(_WARM_UPS):
            if run == _WARM_UPS - 1:
                connection.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
                connection.execute(_EXPLAIN)
            _post(connection, program, size)
    lines = [line[:_LINE_KEPT] for line in "\n\n".join(plans).splitlines()]  # a batch names thousands of accounts
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    Console().print(f"The plans are in {path}.")


def _post(connection: Connection, program: str, size: Size) -> None:
    """A batch as the intake posts it, or one event as upstream does."""
    if program == "f3":
        connection.execute("select * from refill.spend('account-1', 1, %s)", (str(uuid.uuid4()),), prepare=True)
        return
    prepare_connection(connection, lock_timeout_ms=0)
    events = uniform(_BATCH, size.accounts)
    post(connection, [SpendEvent(str(uuid.uuid4()), event.account, event.amount) for event in events])


def main() -> None:
    """Profiles one program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=("f1", "f3"), help=f"a backlog of F1 or the {CLIENTS} clients of F3")
    parser.add_argument("--size", choices=SIZES, default="full")
    arguments = parser.parse_args()
    profile(arguments.program, SIZES[arguments.size])


if __name__ == "__main__":
    main()
