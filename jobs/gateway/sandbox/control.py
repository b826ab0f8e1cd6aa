"""The control calls, for tests and demos. JSON in and out, no API key, never in the log of requests.

====================================  =========================================================================
``GET /_sandbox/health``              ``{"status": "ok"}``
``GET POST DELETE /_sandbox/faults``  list, ask for ``{"kind", "path", "count", "seconds"}``, clear
``GET /_sandbox/requests?after=N``    requests received after number N (0: all)
``GET POST /_sandbox/settings``       ``{"processing_s": 3.0}``
``POST /_sandbox/clock``              ``{"advance_s": 3600}`` moves the sandbox's time forward
``POST /_sandbox/disputes``           ``{"payment_intent", "reason", "amount"}`` opens a dispute
``POST /_sandbox/disputes/ID/close``  ``{"status": "won" | "lost"}``
====================================  =========================================================================
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

from jobs.gateway.sandbox import disputes, faults, log, settings
from jobs.gateway.sandbox.context import Context
from jobs.gateway.sandbox.faults import Fault, FaultKind
from jobs.gateway.sandbox.params import Params
from jobs.gateway.sandbox.wire import Answer, ApiError, Json, invalid

PREFIX = "/_sandbox/"


def decode(body: bytes) -> Json:
    """The JSON object of a control call, empty where nothing was sent. Raises ApiError for anything else."""
    try:
        decoded: object = json.loads(body or b"{}")
    except ValueError as error:
        raise invalid("The body is not JSON.") from error
    if not isinstance(decoded, dict):
        raise invalid("The body is not a JSON object.")
    return decoded


def execute(ctx: Context, method: str, path: str, query: Params, body: Json) -> Answer:
    """Do what a control call asks. Raises ApiError where it makes no sense."""
    close = re.fullmatch(PREFIX + "disputes/([^/]+)/close", path)
    if method == "POST" and close:
        return Answer(200, disputes.close_dispute(ctx, close[1], _text(body, "status", "")))
    call = CALLS.get((method, path.removeprefix(PREFIX)))
    if call is None:
        raise ApiError(404, f"Unrecognized control call ({method}: {path}).")
    return Answer(200, call(ctx, query, body))


def _health(_ctx: Context, _query: Params, _body: Json) -> Json:
    return {"status": "ok"}


def _faults(ctx: Context, _query: Params, _body: Json) -> Json:
    return {"data": faults.listed(ctx.store)}


def _add_fault(ctx: Context, query: Params, body: Json) -> Json:
    kinds = {kind.value: kind for kind in FaultKind}
    kind = kinds.get(_text(body, "kind", ""))
    if kind is None:
        raise invalid(f"kind must be one of {', '.join(kinds)}", "kind")
    count = _number(body, "count", 1)
    faults.add(ctx.store, Fault(kind, _text(body, "path", "."), int(count), _number(body, "seconds", 0)))
    return _faults(ctx, query, body)


def _clear_faults(ctx: Context, query: Params, body: Json) -> Json:
    faults.clear(ctx.store)
    return _faults(ctx, query, body)


def _requests(ctx: Context, query: Params, _body: Json) -> Json:
    return {"data": log.listed(ctx.store, query.integer("after") or 0)}


def _settings(ctx: Context, _query: Params, _body: Json) -> Json:
    return {"processing_s": settings.processing_s(ctx.store)}


def _set_settings(ctx: Context, query: Params, body: Json) -> Json:
    settings.set_processing_s(ctx.store, _number(body, "processing_s", settings.PROCESSING_S))
    return _settings(ctx, query, body)


def _advance(ctx: Context, _query: Params, body: Json) -> Json:
    settings.advance(ctx.store, _number(body, "advance_s", 0))
    return {"now": settings.now(ctx.store)}


def _dispute(ctx: Context, _query: Params, body: Json) -> Json:
    amount = body.get("amount")
    return disputes.open_dispute(
        ctx,
        _text(body, "payment_intent", ""),
        _text(body, "reason", "fraudulent"),
        None if amount is None else int(_number(body, "amount", 0)),
    )


CALLS: dict[tuple[str, str], Callable[[Context, Params, Json], Json]] = {
    ("GET", "health"): _health,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "requests"): _requests,
    ("GET", "settings"): _settings,
    ("POST", "settings"): _set_settings,
    ("POST", "clock"): _advance,
    ("POST", "disputes"): _dispute,
}


def _text(body: Json, name: str, default: str) -> str:
    value = body.get(name, default)
    if not isinstance(value, str):
        raise invalid(f"{name} must be a string", name)
    return value


def _number(body: Json, name: str, default: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise invalid(f"{name} must be a number that is not negative", name)
    return float(value)
