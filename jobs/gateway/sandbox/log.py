"""The log of requests received: what a test asks when it wants to know how often the processor was really asked."""

from __future__ import annotations

from jobs.gateway.sandbox.store import Store
from jobs.gateway.sandbox.wire import Json


def received(store: Store, now: float, method: str, path: str, idempotency_key: str | None) -> int:
    """Note a request before anything is done for it; the number of the note."""
    return store.run(
        "insert into request (at, method, path, idempotency_key) values (?, ?, ?, ?)",
        now,
        method,
        path,
        idempotency_key,
    )


def answered(store: Store, note: int, status: int, replayed: bool) -> None:
    """Note the answer. A request that never got one keeps a null status."""
    store.run("update request set status = ?, replayed = ? where id = ?", status, int(replayed), note)


def listed(store: Store, after: int) -> list[Json]:
    """The requests after this number, in the order in which they came."""
    rows = store.rows(
        "select id, at, method, path, idempotency_key, status, replayed from request where id > ? order by id", after
    )
    return [
        {
            "id": row[0],
            "at": row[1],
            "method": row[2],
            "path": row[3],
            "idempotency_key": row[4],
            "status": row[5],
            "replayed": bool(row[6]),
        }
        for row in rows
    ]
