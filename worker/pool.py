"""Connections to the ledger for many threads: tested before use, bounded in number and in waiting."""

from __future__ import annotations

from typing import Final

from psycopg_pool import ConnectionPool

from jobs.ledger.database import Connection, connection_options

LedgerPool = ConnectionPool[Connection]

WAIT_S: Final = 10
LOCK_TIMEOUT_MS: Final = 10_000  # an account that upstream keeps locked must not hold a thread for ever
UNANSWERED_MS: Final = 30_000


def open_pool(url: str, size: int, application: str, *, is_ready: bool = False) -> LedgerPool:
    """A pool of up to ``size`` connections, opened as they are needed; outlives a restart of Postgres.

    One that ``is_ready`` opens all of them at once, and each plans a statement once, at its first use, instead of the
    first ten times: for short statements that find their rows by keys, and must not wait.

    Taking one raises ``psycopg_pool.PoolTimeout``, an OperationalError, where none could be had for WAIT_S seconds.
    """
    options = connection_options(application)
    options["options"] += f" -c lock_timeout={LOCK_TIMEOUT_MS}"
    if is_ready:
        options["options"] += " -c plan_cache_mode=force_generic_plan"
        options["prepare_threshold"] = 0
    return ConnectionPool(
        url,
        kwargs={**options, "autocommit": True, "tcp_user_timeout": UNANSWERED_MS},
        min_size=size if is_ready else 1,
        max_size=size,
        timeout=WAIT_S,
        check=ConnectionPool.check_connection,
        name=application,
        open=True,
    )
