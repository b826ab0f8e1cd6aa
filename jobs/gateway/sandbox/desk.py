"""The front desk: who asks, has it been asked before, what goes wrong on request, then the endpoint.

The order is Stripe's: the API key is checked first, then the idempotency key, then the parameters.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

from jobs.gateway.sandbox import confirmation, control, faults, idempotency, log, routes, settings
from jobs.gateway.sandbox.context import Context, token
from jobs.gateway.sandbox.faults import Fault, FaultKind
from jobs.gateway.sandbox.idempotency import KeysInProgress, Question
from jobs.gateway.sandbox.params import Params, decode
from jobs.gateway.sandbox.store import Store
from jobs.gateway.sandbox.wire import Answer, ApiError, Json, server_error

API_VERSION = "2026-10-28.endive"


@dataclass(frozen=True)
class Request:
    """One HTTP request, its header names in lower case."""

    method: str
    path: str
    query: bytes
    body: bytes
    headers: Mapping[str, str]
    request_id: str = field(default_factory=lambda: f"req_{token(14)}")

    @property
    def line(self) -> str:
        """``METHOD /path``, what a fault's pattern is matched with."""
        return f"{self.method} {self.path}"

    @property
    def idempotency_key(self) -> str | None:
        """The key; only what changes something has one."""
        return self.headers.get("idempotency-key") if self.method == "POST" else None

    @property
    def version(self) -> str:
        """The API version that the client speaks."""
        return self.headers.get("stripe-version", API_VERSION)


class Desk:
    """Answers requests, any number at once."""

    def __init__(self, store: Store, api_key: str) -> None:
        self._store = store
        self._api_key = api_key
        self._keys = KeysInProgress()

    def answer(self, request: Request) -> Answer | None:
        """The answer, or None where the connection is to be closed without one."""
        if request.path.startswith(control.PREFIX):
            return self._control(request)
        return self._api(request)

    def _control(self, request: Request) -> Answer:
        try:
            query, body = Params(decode(request.query)), control.decode(request.body)
            with self._store.transaction():
                return control.execute(self._context(request, None), request.method, request.path, query, body)
        except ApiError as error:
            return error.answer

    def _api(self, request: Request) -> Answer | None:
        known = self._refusal(request)
        note, fault = self._arrived(request, faulty=known is None)
        if fault is not None and fault.kind is FaultKind.DROP_BEFORE:
            return None
        answer = known or self._served(request, fault)
        if fault is not None and fault.kind is FaultKind.DROP_AFTER:
            return None
        with self._store.transaction():
            log.answered(self._store, note, answer.status, idempotency.REPLAYED in answer.headers)
        return answer

    def _refusal(self, request: Request) -> Answer | None:
        """401 where the API key is not ours."""
        given = _api_key(request.headers.get("authorization", ""))
        if hmac.compare_digest(given.encode(), self._api_key.encode()):
            return None
        message = f"Invalid API Key provided: {given[:8]}***" if given else "You did not provide an API key."
        return ApiError(401, message, stored=False, headers={"WWW-Authenticate": 'Basic realm="Stripe"'}).answer

    def _arrived(self, request: Request, *, faulty: bool) -> tuple[int, Fault | None]:
        with self._store.transaction():
            note = log.received(
                self._store, settings.now(self._store), request.method, request.path, request.idempotency_key
            )
            return note, faults.take(self._store, request.line) if faulty else None

    def _served(self, request: Request, fault: Fault | None) -> Answer:
        try:
            faults.refuse(fault)
            params = decode(request.body if request.method == "POST" else request.query)
            asked = self._question(request, params)
            with self._keys.hold(asked) if asked else nullcontext():
                answer = self._executed(request, params, asked, fault)
                if fault is not None and fault.kind is FaultKind.DELAY:
                    time.sleep(fault.seconds)
                return answer
        except ApiError as error:
            return error.answer

    def _question(self, request: Request, params: Json) -> Question | None:
        key = request.idempotency_key
        return idempotency.question(self._api_key, key, request.path, params) if key else None

    def _executed(self, request: Request, params: Json, asked: Question | None, fault: Fault | None) -> Answer:
        """One transaction: the kept answer, or the effect and the answer that is kept with it."""
        with self._store.transaction():
            ctx = self._context(request, fault)
            kept = idempotency.kept(self._store, asked, ctx.now) if asked else None
            if kept is not None:
                return kept
            confirmation.settle_due(ctx)
            answer = self._endpoint(ctx, request, Params(params), fault)
            if asked and answer.stored:
                idempotency.keep(self._store, asked, answer, ctx.now)
            return answer

    def _endpoint(self, ctx: Context, request: Request, params: Params, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else None
        if kind is FaultKind.ERROR_500_BEFORE:
            return server_error()
        answer = _attempted(ctx, request, params)
        return server_error() if kind is FaultKind.ERROR_500_AFTER else answer

    def _context(self, request: Request, fault: Fault | None) -> Context:
        forced = fault is not None and fault.kind is FaultKind.PROCESSING
        seconds = (
            fault.seconds if fault is not None and forced and fault.seconds else settings.processing_s(self._store)
        )
        return Context(
            self._store,
            settings.now(self._store),
            request.request_id,
            request.idempotency_key,
            request.version,
            seconds,
            forced,
        )


def _attempted(ctx: Context, request: Request, params: Params) -> Answer:
    """What the endpoint answers; what it did before it refused is undone."""
    try:
        with ctx.store.savepoint():
            return routes.execute(ctx, request.method, request.path, params)
    except ApiError as error:
        return error.answer


def _api_key(authorization: str) -> str:
    """The key of a Bearer header, or the user name of a Basic one."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
