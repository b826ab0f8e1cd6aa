"""Refunds (https://docs.stripe.com/api/refunds). They succeed at once."""

from __future__ import annotations

from jobs.gateway.sandbox import charges, events
from jobs.gateway.sandbox.context import Context, envelope, expand, listing
from jobs.gateway.sandbox.params import Params, merged_metadata
from jobs.gateway.sandbox.wire import ApiError, Json, invalid, number, text


def create(ctx: Context, params: Params) -> Json:
    """POST /v1/refunds of a ``charge`` or ``payment_intent``, the whole rest or an ``amount`` of it."""
    params.allow("charge", "payment_intent", "amount", "reason", "metadata", "expand")
    reason = params.one_of("reason", "duplicate", "fraudulent", "requested_by_customer")
    charge = _charge(ctx, params)
    amount = _amount(params, charge)
    refund: Json = {
        **envelope("refund", ctx.created),
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "currency": charge["currency"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": merged_metadata(params, {}),
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    ctx.store.insert(refund)
    _take(ctx, charge, amount)
    events.record(ctx, "refund.created", refund)
    return expand(ctx, params, refund)


def retrieve(ctx: Context, params: Params, identifier: str) -> Json:
    """GET /v1/refunds/:id"""
    params.allow("expand")
    return expand(ctx, params, ctx.get("refund", identifier, "refund"))


def index(ctx: Context, params: Params) -> Json:
    """GET /v1/refunds, of a ``charge`` or a ``payment_intent``."""
    params.allow("limit", "starting_after", "ending_before", "created", "charge", "payment_intent", "expand")
    equal = {name: params.text(name) for name in ("charge", "payment_intent")}
    return expand(ctx, params, listing(ctx, params, "refund", "/v1/refunds", equal=equal))


def _charge(ctx: Context, params: Params) -> Json:
    identifier = params.text("charge")
    if identifier is not None:
        charge = ctx.get("charge", identifier, "charge", status=400)
    else:
        intent = ctx.get("payment_intent", params.required("payment_intent"), "payment_intent", status=400)
        charge = charges.of_intent(ctx, intent)
    if charge["status"] != "succeeded":
        raise ApiError(400, f"Charge {text(charge, 'id')} did not succeed, so it cannot be refunded.", param="charge")
    return charge


def _amount(params: Params, charge: Json) -> int:
    left = number(charge, "amount") - number(charge, "amount_refunded")
    identifier = text(charge, "id")
    if charge["disputed"]:
        raise ApiError(
            400, f"Charge {identifier} has been charged back; cannot issue a refund.", code="charge_disputed"
        )
    if left == 0:
        raise ApiError(400, f"Charge {identifier} has already been refunded.", code="charge_already_refunded")
    asked = params.integer("amount")
    if asked is not None and asked < 1:
        raise invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
    if asked is not None and asked > left:
        raise ApiError(
            400, f"Refund amount ({asked}) is greater than unrefunded amount on charge ({left})", param="amount"
        )
    return asked or left


def _take(ctx: Context, charge: Json, amount: int) -> None:
    refunded = number(charge, "amount_refunded") + amount
    charge.update(amount_refunded=refunded, refunded=refunded == charge["amount"])
    ctx.store.update(charge)
    events.record(ctx, "charge.refunded", charge)
