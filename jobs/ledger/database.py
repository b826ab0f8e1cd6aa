"""Connections to the shared Postgres and the migrations of its schema `refill`.

A migration is one SQL file, applied once; the functions beside them are re-created each time. All of it happens in one
transaction under one lock, together with the note that says what was applied: a kill at any moment leaves either the
old schema or the new one. (yoyo-migrations 9.0 writes its note in a second transaction, so that a kill between the two
leaves a schema that it can neither apply nor skip.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.resources import files
from typing import Any, LiteralString, NamedTuple, TypeAlias

import psycopg
import structlog
from psycopg.rows import TupleRow

from jobs.errors import DatabaseTooOld, DatabaseUnavailable, SchemaOutdated

log = structlog.get_logger()

OLDEST_SERVER = 150000  # PostgreSQL 15, as the contract promises
CONNECT_TIMEOUT_S = 10
# For the server's end: a silent client is given up after 15 s, one that takes no answer after a minute.
_SIGNS_OF_LIFE = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2 -c tcp_user_timeout=60000"
)
MIGRATION_LOCK = 7_355_608  # any number that only migrations take

Connection: TypeAlias = psycopg.Connection[TupleRow]
Params: TypeAlias = Sequence[object] | Mapping[str, object]


class SqlFile(NamedTuple):
    """One file of SQL that ships with the package."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def sql_files(folder: str) -> list[SqlFile]:
    """The SQL files of `schema` or `functions`, in the order of their names."""
    found = [f for f in files("jobs.ledger").joinpath(folder).iterdir() if f.name.endswith(".sql")]
    return sorted(SqlFile(f.name.removesuffix(".sql"), f.read_text("utf-8")) for f in found)


@contextmanager
def connect(url: str, *, application: str = "refill") -> Iterator[Connection]:
    """A connection to the ledger that is closed at the end.

    Every connection of ours is in autocommit mode: each transaction is written out as `with connection.transaction()`.
    Raises DatabaseUnavailable where nothing answers and DatabaseTooOld before PostgreSQL 15.
    """
    with open_connection(url, application=application) as connection:
        yield connection


def open_connection(url: str, *, application: str = "refill") -> Connection:
    """As `connect`, for a caller that closes it itself."""
    try:
        connection = psycopg.connect(url, autocommit=True, **connection_options(application))
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {first_line(error)}") from error
    check_server(connection)
    return connection


def connection_options(application: str) -> dict[str, Any]:
    """What every connection asks for: UTC, dates as the driver reads them, a name that the server's own views show, and
    an end to waiting.

    Both ends ask each other for a sign of life. The server's own default is two hours, and for so long a machine that
    lost its power or its network would keep its locks: on accounts, on a job, on leadership.
    """
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application,
        "options": f"-c timezone=UTC -c datestyle=ISO {_SIGNS_OF_LIFE}",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


def database_now(connection: Connection) -> datetime:
    """The time that counts: the database's, UTC."""
    now: datetime = fetch_one(connection, "select clock_timestamp()")[0]
    return now


def fetch_one(connection: Connection, query: LiteralString, params: Params | None = None) -> TupleRow:
    """The one row of a query that always has one; raises LookupError where it has none."""
    row = connection.execute(query, params).fetchone()
    if row is None:
        raise LookupError(f"no row for: {query}")
    return row


def check_server(connection: Connection) -> None:
    """Raises DatabaseTooOld before PostgreSQL 15."""
    version = connection.info.server_version
    if version < OLDEST_SERVER:
        connection.close()
        raise DatabaseTooOld(
            f"The database server is PostgreSQL {version // 10000}; refill needs PostgreSQL 15 or later."
        )


def migrate(url: str, *, sandbox: bool = False) -> list[str]:
    """Brings the schema to this release and returns the migrations that were applied.

    `sandbox` marks a fresh or sandbox database as one where jobs may be run for any moment.
    Raises SchemaOutdated where an applied migration differs from the file of that name.
    """
    with connect(url, application="refill migrate") as connection, connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        applied = _apply_pending(connection)
        for function in sql_files("functions"):
            connection.execute(function.text.encode())
        if sandbox:
            connection.execute("update refill.installation set is_sandbox = true")
    for name in applied:
        log.info("migration.applied", migration=name)
    return applied


def check_schema(connection: Connection) -> None:
    """Raises SchemaOutdated unless every migration of this release is applied."""
    wanted = {m.name for m in sql_files("schema")}
    present = fetch_one(connection, "select to_regclass('refill.migration') is not null")[0]
    applied = _applied(connection).keys() if present else set()
    missing = sorted(wanted - applied)
    if missing:
        raise SchemaOutdated(f"The database lacks {', '.join(missing)}; run `refill migrate`.")


def _apply_pending(connection: Connection) -> list[str]:
    connection.execute("create schema if not exists refill")
    connection.execute(
        "create table if not exists refill.migration"
        " (name text primary key, digest text not null, applied_at timestamptz not null default now())"
    )
    applied = _applied(connection)
    pending = []
    for migration in sql_files("schema"):
        if migration.name not in applied:
            connection.execute(migration.text.encode())
            connection.execute(
                "insert into refill.migration (name, digest) values (%s, %s)", (migration.name, migration.digest)
            )
            pending.append(migration.name)
        elif applied[migration.name] != migration.digest:
            raise SchemaOutdated(f"Migration {migration.name} was applied with other content; it must not be edited.")
    return pending


def _applied(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("select name, digest from refill.migration").fetchall())


def first_line(error: Exception) -> str:
    """The first line of what a driver says; the rest repeats it for each address tried."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
