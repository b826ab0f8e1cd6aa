"""Charges: one for each time the card network was asked (https://docs.stripe.com/api/charges)."""

from __future__ import annotations

from jobs.gateway.sandbox import events
from jobs.gateway.sandbox.cards import Card, Decline
from jobs.gateway.sandbox.context import Context, envelope, expand, listing
from jobs.gateway.sandbox.params import Params
from jobs.gateway.sandbox.payment_methods import EMPTY_BILLING
from jobs.gateway.sandbox.wire import Json, text

APPROVED: Json = {
    "advice_code": None,
    "network_advice_code": None,
    "network_decline_code": None,
    "network_status": "approved_by_network",
    "reason": None,
    "risk_level": "normal",
    "risk_score": 12,
    "seller_message": "Payment complete.",
    "type": "authorized",
}
FROM_INTENT = (
    "amount",
    "currency",
    "customer",
    "description",
    "metadata",
    "receipt_email",
    "statement_descriptor",
    "statement_descriptor_suffix",
)


def retrieve(ctx: Context, params: Params, identifier: str) -> Json:
    """GET /v1/charges/:id"""
    params.allow("expand")
    return expand(ctx, params, ctx.get("charge", identifier, "charge"))


def index(ctx: Context, params: Params) -> Json:
    """GET /v1/charges, of a ``customer`` or a ``payment_intent``."""
    params.allow("limit", "starting_after", "ending_before", "created", "customer", "payment_intent", "expand")
    equal = {name: params.text(name) for name in ("customer", "payment_intent")}
    return expand(ctx, params, listing(ctx, params, "charge", "/v1/charges", equal=equal))


def open_charge(ctx: Context, intent: Json, method: Json, card: Card) -> Json:
    """A pending charge: the card network was asked and has not answered."""
    charge: Json = {
        **envelope("charge", ctx.created),
        **{name: intent[name] for name in FROM_INTENT},
        "amount_captured": 0,
        "amount_refunded": 0,
        "balance_transaction": None,
        "billing_details": {**EMPTY_BILLING},
        "captured": False,
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"card": {**card.details(), "network": card.brand}, "type": "card"},
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "shipping": None,
        "status": "pending",
    }
    ctx.store.insert(charge)
    return charge


def approve(ctx: Context, charge: Json) -> None:
    """The network says yes."""
    charge.update(status="succeeded", paid=True, captured=True, amount_captured=charge["amount"], outcome=APPROVED)
    ctx.store.update(charge)
    events.record(ctx, "charge.succeeded", charge)


def decline(ctx: Context, charge: Json, refusal: Decline) -> None:
    """The network, or the processor before it, says no."""
    charge.update(
        status="failed", failure_code=refusal.code, failure_message=refusal.message, outcome=refusal.outcome()
    )
    ctx.store.update(charge)
    events.record(ctx, "charge.failed", charge)


def of_intent(ctx: Context, intent: Json, param: str = "payment_intent") -> Json:
    """The latest charge of an intent. Raises ApiError where it has none."""
    latest = intent["latest_charge"]
    return ctx.get("charge", latest if isinstance(latest, str) else text(intent, "id"), param, status=400)
