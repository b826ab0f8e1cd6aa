"""Faults on request, for tests and demos. Each request that matches a fault's path uses one of its count up.

=================  ======================================================================================
kind               what happens to the matching request
=================  ======================================================================================
drop_before        the connection closes; nothing is done
drop_after         it is done; the connection closes without an answer
delay              it is done; the answer comes ``seconds`` later, and its key is in progress until then
error_500_before   nothing is done; a 500 is stored under its key and answered
error_500_after    it is done; a 500 is stored under its key and answered
unavailable        503, not stored, with ``Stripe-Should-Retry: true``; nothing is done
rate_limit         429, not stored; nothing is done
conflict           409 as for a key in progress, not stored; nothing is done
processing         a confirmation in it goes to processing, whatever the card, which then decides
=================  ======================================================================================

A key that has a stored answer is replayed through ``error_500_*`` and ``processing``: nothing executes, so nothing
can fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from jobs.gateway.sandbox.store import Row, Store
from jobs.gateway.sandbox.wire import ApiError, Json, invalid

RETRY = {"Stripe-Should-Retry": "true"}


class FaultKind(Enum):
    """What goes wrong."""

    DROP_BEFORE = "drop_before"
    DROP_AFTER = "drop_after"
    DELAY = "delay"
    ERROR_500_BEFORE = "error_500_before"
    ERROR_500_AFTER = "error_500_after"
    UNAVAILABLE = "unavailable"
    RATE_LIMIT = "rate_limit"
    CONFLICT = "conflict"
    PROCESSING = "processing"


@dataclass(frozen=True)
class Fault:
    """One fault asked for: a regular expression on ``METHOD /path``, how many requests, and seconds if any."""

    kind: FaultKind
    path: str = "."
    count: int = 1
    seconds: float = 0.0


def add(store: Store, fault: Fault) -> None:
    """Ask for a fault. Raises ApiError where the path is no regular expression or the numbers make no sense."""
    try:
        re.compile(fault.path)
    except re.error as error:
        raise invalid(f"path is not a regular expression: {error}", "path") from error
    if fault.count < 1 or not 0 <= fault.seconds <= 3600:
        raise invalid("count must be 1 or more, and seconds from 0 to 3600")
    store.run(
        "insert into fault (kind, path, remaining, seconds) values (?, ?, ?, ?)",
        fault.kind.value,
        fault.path,
        fault.count,
        fault.seconds,
    )


def take(store: Store, request: str) -> Fault | None:
    """Use up one of the oldest fault that matches ``METHOD /path``."""
    for row in store.rows("select id, kind, path, remaining, seconds from fault where remaining > 0 order by id"):
        fault = _fault(row)
        if re.search(fault.path, request):
            store.run("update fault set remaining = remaining - 1 where id = ?", row[0])
            return fault
    return None


def listed(store: Store) -> list[Json]:
    """The faults that still wait for a request, oldest first."""
    rows = store.rows("select id, kind, path, remaining, seconds from fault where remaining > 0 order by id")
    return [{"kind": row[1], "path": row[2], "count": row[3], "seconds": row[4]} for row in rows]


def clear(store: Store) -> None:
    """Forget all faults."""
    store.run("delete from fault")


def _fault(row: Row) -> Fault:
    return Fault(FaultKind(row[1]), str(row[2]), int(row[3] or 0), float(row[4] or 0))


def refuse(fault: Fault | None) -> None:
    """Raises ApiError for the faults that answer before anything executes and that no key stores."""
    if fault is None:
        return
    if fault.kind is FaultKind.UNAVAILABLE:
        raise ApiError(503, "The service is temporarily unavailable.", kind="api_error", stored=False, headers=RETRY)
    if fault.kind is FaultKind.RATE_LIMIT:
        raise ApiError(
            429,
            "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
            code="rate_limit",
            stored=False,
        )
    if fault.kind is FaultKind.CONFLICT:
        raise key_in_use()


def key_in_use() -> ApiError:
    """409: the first request under this idempotency key still runs."""
    return ApiError(
        409,
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        "twice, and the other request is still going through). Please try again later.",
        kind="idempotency_error",
        code="idempotency_key_in_use",
        stored=False,
        headers=RETRY,
    )
