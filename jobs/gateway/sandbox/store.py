"""The SQLite file that holds everything, behind one lock: requests execute one after another, each in one transaction.

Write-ahead log with ``synchronous=NORMAL``: a commit outlives the process, whatever kills it. It need not outlive a
power cut, which Stripe would not suffer either and which tests do not make.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jobs.errors import UsageError
from jobs.gateway.sandbox.wire import Json, number, optional_text, text

SCHEMA = """
create table if not exists object (
    seq integer primary key autoincrement, id text not null unique, kind text not null, created integer not null,
    customer text, payment_intent text, charge text, label text, body text not null);
create index if not exists object_kind on object (kind, seq);
create index if not exists object_customer on object (kind, customer, seq);
create index if not exists object_payment_intent on object (kind, payment_intent, seq);
create table if not exists payment_method_card (
    payment_method text primary key, card text not null, spent integer not null);
create table if not exists confirmation_count (fingerprint text primary key, confirmations integer not null);
create table if not exists pending (payment_intent text primary key, due_at real not null);
create table if not exists setting (name text primary key, value real not null);
create table if not exists idempotency (
    api_key text not null, key text not null, path text not null, params text not null, at real not null,
    status integer not null, body text not null, headers text not null, primary key (api_key, key));
create table if not exists fault (
    id integer primary key autoincrement, kind text not null, path text not null, remaining integer not null,
    seconds real not null);
create table if not exists request (
    id integer primary key autoincrement, at real not null, method text not null, path text not null,
    idempotency_key text, status integer, replayed integer not null default 0);
"""

Value = str | int | float | None
Row = tuple[Value, ...]


class DataUnusable(UsageError):
    """The sandbox cannot keep its state in this file."""

    code = "sandbox_data_unusable"


class Closed(Exception):
    """The store was closed while a request waited for it."""


@dataclass(frozen=True)
class Page:
    """Which objects a list asks for: newest first, ``limit`` of them on one side of a cursor."""

    kind: str
    limit: int = 10
    starting_after: str | None = None
    ending_before: str | None = None
    equal: dict[str, str] = field(default_factory=dict)
    created: dict[str, int] = field(default_factory=dict)
    labels: Sequence[str] = ()


class Store:
    """All state. Every method that reads or writes is called within ``transaction()``."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._db = _opened(path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction: committed at the end, nothing of it kept when an exception leaves it."""
        with self._lock:
            if self._closed:
                raise Closed
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that is undone by itself when an exception leaves it."""
        self._db.execute("savepoint part")
        try:
            yield
        except BaseException:
            self._db.execute("rollback to part")
            raise
        finally:
            self._db.execute("release part")

    def close(self) -> None:
        """Wait for the running transaction, then close the file."""
        with self._lock:
            self._closed = True
            self._db.close()

    def rows(self, sql: str, *values: Value) -> list[Row]:
        """What a query answers."""
        return self._db.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Value) -> Row | None:
        """The first row that a query answers."""
        found: Row | None = self._db.execute(sql, values).fetchone()
        return found

    def run(self, sql: str, *values: Value) -> int:
        """Change something; the id of the last row inserted."""
        return self._db.execute(sql, values).lastrowid or 0

    def insert(self, body: Json) -> None:
        """Keep a new object."""
        refs = [optional_text(body, name) for name in ("customer", "payment_intent", "charge")]
        label = optional_text(body, "type")
        self.run(
            "insert into object (id, kind, created, customer, payment_intent, charge, label, body)"
            " values (?,?,?,?,?,?,?,?)",
            text(body, "id"),
            text(body, "object"),
            number(body, "created"),
            *refs,
            label,
            json.dumps(body),
        )

    def update(self, body: Json) -> None:
        """Keep an object's new state."""
        self.run(
            "update object set body = ?, customer = ? where id = ?",
            json.dumps(body),
            optional_text(body, "customer"),
            text(body, "id"),
        )

    def find(self, identifier: str, kind: str | None = None) -> Json | None:
        """The object of this id, of this kind where one is asked for."""
        row = self.row("select body from object where id = ? and kind = coalesce(?, kind)", identifier, kind)
        return None if row is None else _body(row)

    def page(self, page: Page) -> tuple[list[Json], bool]:
        """The objects of a page, newest first, and whether more lie beyond it."""
        where, values = _conditions(page)
        backwards = page.ending_before is not None
        order = "asc" if backwards else "desc"
        found = self.rows(
            f"select body from object where {where} order by seq {order} limit ?",  # noqa: S608 - see _conditions
            *values,
            page.limit + 1,
        )
        bodies = [_body(row) for row in found[: page.limit]]
        return bodies[::-1] if backwards else bodies, len(found) > page.limit


def _opened(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        db.executescript(SCHEMA)
    except (OSError, sqlite3.Error) as error:
        raise DataUnusable(f"The sandbox cannot keep its state in {path}: {error}.") from error
    return db


def _body(row: Row) -> Json:
    body: Json = json.loads(str(row[0]))
    return body


def _conditions(page: Page) -> tuple[str, list[Value]]:
    """The SQL condition of a page. Column and operator names come from this program, values never enter the text."""
    operators = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
    where, values = ["kind = ?"], list[Value]([page.kind])
    for column, wanted in page.equal.items():
        where.append(f"{column} = ?")
        values.append(wanted)
    for name, bound in page.created.items():
        where.append(f"created {operators[name]} ?")
        values.append(bound)
    for cursor, operator in ((page.starting_after, "<"), (page.ending_before, ">")):
        if cursor is not None:
            where.append(f"seq {operator} (select seq from object where id = ?)")  # noqa: S608 - the operator is ours
            values.append(cursor)
    if page.labels:
        where.append(f"label in ({','.join('?' * len(page.labels))})")
        values.extend(page.labels)
    return " and ".join(where), values
