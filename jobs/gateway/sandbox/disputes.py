"""Disputes (https://docs.stripe.com/api/disputes): opened and closed by control calls, read over the API."""

from __future__ import annotations

from jobs.gateway.sandbox import charges, events
from jobs.gateway.sandbox.context import Context, envelope, expand, listing
from jobs.gateway.sandbox.params import Params
from jobs.gateway.sandbox.wire import ApiError, Json, number, text

ANSWER_WITHIN_S = 7 * 86_400


def retrieve(ctx: Context, params: Params, identifier: str) -> Json:
    """GET /v1/disputes/:id"""
    params.allow("expand")
    return expand(ctx, params, ctx.get("dispute", identifier, "dispute"))


def index(ctx: Context, params: Params) -> Json:
    """GET /v1/disputes, of a ``charge`` or a ``payment_intent``."""
    params.allow("limit", "starting_after", "ending_before", "created", "charge", "payment_intent", "expand")
    equal = {name: params.text(name) for name in ("charge", "payment_intent")}
    return expand(ctx, params, listing(ctx, params, "dispute", "/v1/disputes", equal=equal))


def open_dispute(ctx: Context, payment_intent: str, reason: str, amount: int | None) -> Json:
    """The holder disputes a payment, whole or ``amount`` of it. Raises ApiError where nothing can be disputed."""
    charge = charges.of_intent(ctx, ctx.get("payment_intent", payment_intent, "payment_intent"))
    if charge["status"] != "succeeded" or charge["disputed"]:
        raise ApiError(400, f"Charge {text(charge, 'id')} cannot be disputed.")
    dispute: Json = {
        **envelope("dispute", ctx.created),
        "amount": amount or number(charge, "amount"),
        "balance_transactions": [],
        "charge": charge["id"],
        "currency": charge["currency"],
        "evidence": {},
        "evidence_details": {
            "due_by": ctx.created + ANSWER_WITHIN_S,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "metadata": {},
        "network_reason_code": None,
        "payment_intent": payment_intent,
        "reason": reason,
        "status": "needs_response",
    }
    ctx.store.insert(dispute)
    ctx.store.update({**charge, "disputed": True})
    events.record(ctx, "charge.dispute.created", dispute)
    return dispute


def close_dispute(ctx: Context, identifier: str, status: str) -> Json:
    """The network decides: ``won`` or ``lost``. Raises ApiError where it has decided already."""
    dispute = ctx.get("dispute", identifier, "dispute")
    if status not in ("won", "lost") or dispute["status"] in ("won", "lost"):
        raise ApiError(400, f"Dispute {identifier} is {dispute['status']} and cannot be closed as {status}.")
    dispute["status"] = status
    ctx.store.update(dispute)
    events.record(ctx, "charge.dispute.closed", dispute)
    return dispute
