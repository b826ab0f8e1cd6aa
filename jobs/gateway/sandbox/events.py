"""Events: what happened, in order, each with the object as it was then (https://docs.stripe.com/api/events)."""

from __future__ import annotations

from jobs.gateway.sandbox.context import Context, envelope, listing
from jobs.gateway.sandbox.params import Params
from jobs.gateway.sandbox.wire import Json


def record(ctx: Context, kind: str, subject: Json) -> None:
    """Keep the event in the transaction of its cause."""
    event: Json = {
        **envelope("event", ctx.created),
        "api_version": ctx.api_version,
        "data": {"object": subject},
        "pending_webhooks": 0,
        "type": kind,
        "request": {"id": ctx.request_id, "idempotency_key": ctx.idempotency_key},
    }
    ctx.store.insert(event)


def retrieve(ctx: Context, params: Params, identifier: str) -> Json:
    """GET /v1/events/:id"""
    params.allow("expand")
    return ctx.get("event", identifier)


def index(ctx: Context, params: Params) -> Json:
    """GET /v1/events, of one ``type`` or of several ``types[]``."""
    params.allow("limit", "starting_after", "ending_before", "created", "type", "types", "expand")
    wanted = params.text("type")
    return listing(ctx, params, "event", "/v1/events", labels=[wanted] if wanted else params.items("types"))
