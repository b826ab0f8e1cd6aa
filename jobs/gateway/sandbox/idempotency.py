"""Idempotency keys as Stripe keeps them (https://docs.stripe.com/api/idempotent_requests).

The first answer under a key is kept with what was asked, and given again for 24 hours. The kept answer is written in
the transaction of its effect, so neither is ever there without the other. A request that still runs holds its key in
memory: it is in progress, and a killed process has none.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.gateway.sandbox.faults import key_in_use
from jobs.gateway.sandbox.store import Store
from jobs.gateway.sandbox.wire import Answer, ApiError, Json, invalid

KEPT_S = 24 * 3600
KEY_LENGTH_MAX = 255
REPLAYED = "Idempotent-Replayed"


@dataclass(frozen=True)
class Question:
    """What was asked under a key: the API key's digest, the idempotency key, the path, and the parameters' digest."""

    api_key: str
    key: str
    path: str
    params: str


def question(api_key: str, key: str, path: str, params: Json) -> Question:
    """Describe a request for comparison. Raises ApiError where the key is too long."""
    if len(key) > KEY_LENGTH_MAX:
        raise invalid(f"Idempotency keys are at most {KEY_LENGTH_MAX} characters long.")
    return Question(_digest(api_key), key, path, _digest(json.dumps(params, sort_keys=True)))


class KeysInProgress:
    """The keys whose first request still runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[tuple[str, str]] = set()

    @contextmanager
    def hold(self, asked: Question) -> Iterator[None]:
        """Hold the key until its answer is ready. Raises ApiError (409) where another request holds it."""
        name = (asked.api_key, asked.key)
        with self._lock:
            if name in self._held:
                raise key_in_use()
            self._held.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(name)


def kept(store: Store, asked: Question, now: float) -> Answer | None:
    """The answer kept under the key, marked as replayed. Raises ApiError where something else was asked then."""
    row = store.row(
        "select path, params, status, body, headers from idempotency where api_key = ? and key = ? and at > ?",
        asked.api_key,
        asked.key,
        now - KEPT_S,
    )
    if row is None:
        return None
    path, params, status, body, headers = row
    if path != asked.path:
        raise _reused(
            f"Keys for idempotent requests can only be used for the same endpoint they were first used for "
            f"('{asked.path}' vs '{path}').",
            asked.key,
        )
    if params != asked.params:
        raise _reused(
            "Keys for idempotent requests can only be used with the same parameters they were first used with.",
            asked.key,
        )
    return Answer(int(status or 0), json.loads(str(body)), headers={**json.loads(str(headers)), REPLAYED: "true"})


def keep(store: Store, asked: Question, answer: Answer, now: float) -> None:
    """Keep the answer under its key, in the place of one that is older than 24 hours."""
    store.run(
        "insert or replace into idempotency (api_key, key, path, params, at, status, body, headers)"
        " values (?,?,?,?,?,?,?,?)",
        asked.api_key,
        asked.key,
        asked.path,
        asked.params,
        now,
        answer.status,
        json.dumps(answer.body),
        json.dumps(dict(answer.headers)),
    )


def _reused(message: str, key: str) -> ApiError:
    advice = f"Try using a key other than '{key}' if you meant to execute a different request."
    return ApiError(400, f"{message} {advice}", kind="idempotency_error", stored=False)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
