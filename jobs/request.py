"""Commands that move credit are done once: their request id is kept with a hash of their content and their result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from psycopg.types.json import Jsonb

from jobs.errors import Conflict, Malformed
from jobs.ledger.database import Connection

REQUEST_ID_LENGTH_MAX: Final = 64

Content = Mapping[str, str | int | None]
Result = dict[str, int]


@dataclass(frozen=True, slots=True)
class Request:
    """One command: its id is unique within the program and operation, and stands for this content."""

    program_id: int
    operation: str
    request_id: str
    content: Content
    actor: str

    @property
    def content_hash(self) -> bytes:
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).digest()


def once(connection: Connection, request: Request, act: Callable[[], Result]) -> Result:
    """Does `act` and keeps its result, or gives the result of the first time; call it inside a transaction.

    Two of the same id wait for each other. Raises `Malformed` for an id that cannot be one, and `Conflict` where the
    id was used with other content.
    """
    _check_id(request.request_id)
    connection.execute(
        "select pg_advisory_xact_lock(hashtextextended(format('%%s:%%s:%%s', %s::int, %s::text, %s::text), 0))",
        (request.program_id, request.operation, request.request_id),
    )
    first = connection.execute(
        "select content_hash, result from refill.request where program_id = %s and operation = %s and request_id = %s",
        (request.program_id, request.operation, request.request_id),
    ).fetchone()
    if first is None:
        return _kept(connection, request, act())
    content_hash, result = first
    if content_hash != request.content_hash:
        raise Conflict(f"The request id {request.request_id} was used before with other content.")
    replayed: Result = result
    return replayed


def _kept(connection: Connection, request: Request, result: Result) -> Result:
    connection.execute(
        "insert into refill.request (program_id, operation, request_id, content_hash, result, actor)"
        " values (%s, %s, %s, %s, %s, %s)",
        (
            request.program_id,
            request.operation,
            request.request_id,
            request.content_hash,
            Jsonb(result),
            request.actor,
        ),
    )
    return result


def _check_id(text: str) -> None:
    if not 1 <= len(text) <= REQUEST_ID_LENGTH_MAX or not text.isprintable():
        raise Malformed(f"a request id must have 1 to {REQUEST_ID_LENGTH_MAX} printable characters, not {len(text)}")
