"""Connections to the ledger for many threads: tested before use, bounded in number and in waiting."""

from __future__ import annotations

from typing import Final

from psycopg_pool import ConnectionPool

from jobs.ledger.database import Connection, connection_options

LedgerPool = ConnectionPool[Connection]

WAIT_S: Final = 10
LOCK_TIMEOUT_MS: Final = 10_000  # an account that upstream keeps locked must not hold a thread for ever
UNANSWERED_MS: Final = 30_000


def open_pool(url: str, size: int, application: str) -> LedgerPool:
    """A pool of up to ``size`` connections, opened as they are needed; outlives a restart of Postgres.

    Taking one raises ``psycopg_pool.PoolTimeout``, an OperationalError, where none could be had for WAIT_S seconds.
    """
    options = connection_options(application)
    options["options"] += f" -c lock_timeout={LOCK_TIMEOUT_MS}"
    return ConnectionPool(
        url,
        kwargs={**options, "autocommit": True, "tcp_user_timeout": UNANSWERED_MS},
        min_size=1,
        max_size=size,
        timeout=WAIT_S,
        check=ConnectionPool.check_connection,
        name=application,
        open=True,
    )
