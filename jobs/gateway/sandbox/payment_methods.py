"""Payment methods, all of them cards (https://docs.stripe.com/api/payment_methods)."""

from __future__ import annotations

from jobs.gateway.sandbox import cards, events
from jobs.gateway.sandbox.cards import Card
from jobs.gateway.sandbox.context import Context, envelope, expand, listing
from jobs.gateway.sandbox.params import Params, merged_metadata
from jobs.gateway.sandbox.wire import ApiError, Json, invalid, nested, optional_text, text

EMPTY_BILLING: Json = {
    "address": {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None},
    "email": None,
    "name": None,
    "phone": None,
    "tax_id": None,
}
SPENT = (
    "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment or was detached "
    "from a Customer. It may not be used again. To use a PaymentMethod multiple times, you must attach it to a "
    "Customer first."
)


def create(ctx: Context, params: Params) -> Json:
    """POST /v1/payment_methods with ``card[token]`` or one of Stripe's test numbers in ``card[number]``."""
    params.allow("type", "card", "billing_details", "metadata", "allow_redisplay", "expand")
    if params.required("type") != "card":
        raise invalid("The sandbox has only payment methods of type card.", "type")
    method = _saved(ctx, _card(params.group("card")))
    billing = params.group("billing_details")
    billing.allow("email", "name", "phone")
    nested(method, "billing_details").update(dict(billing.pairs()))
    method["metadata"] = merged_metadata(params, {})
    ctx.store.update(method)
    return expand(ctx, params, method)


def retrieve(ctx: Context, params: Params, identifier: str) -> Json:
    """GET /v1/payment_methods/:id"""
    params.allow("expand")
    return expand(ctx, params, find(ctx, identifier, status=404))


def of_customer(ctx: Context, params: Params, customer: str) -> Json:
    """GET /v1/customers/:id/payment_methods"""
    params.allow("limit", "starting_after", "ending_before", "type", "allow_redisplay", "expand")
    ctx.get("customer", customer, "customer")
    url = f"/v1/customers/{customer}/payment_methods"
    return expand(
        ctx,
        params,
        listing(ctx, params, "payment_method", url, equal={"customer": customer, "label": params.text("type")}),
    )


def one_of_customer(ctx: Context, params: Params, customer: str, identifier: str) -> Json:
    """GET /v1/customers/:id/payment_methods/:id"""
    params.allow("expand")
    attached_to(ctx, identifier, customer)
    return expand(ctx, params, ctx.get("payment_method", identifier, "payment_method"))


def index(ctx: Context, params: Params) -> Json:
    """GET /v1/payment_methods, of one customer."""
    params.allow("customer", "limit", "starting_after", "ending_before", "type", "allow_redisplay", "expand")
    equal = {"customer": params.required("customer"), "label": params.text("type")}
    return expand(ctx, params, listing(ctx, params, "payment_method", "/v1/payment_methods", equal=equal))


def attach(ctx: Context, params: Params, identifier: str) -> Json:
    """POST /v1/payment_methods/:id/attach"""
    params.allow("customer", "expand")
    return expand(ctx, params, attach_to(ctx, identifier, params.required("customer")))


def attach_to(ctx: Context, identifier: str, customer: str) -> Json:
    """Attach a payment method, or a new one of a ready-made id. Raises ApiError where it is another's or used up."""
    ctx.get("customer", customer, "customer", status=400)
    method = find(ctx, identifier)
    if method["customer"] == customer:
        return method
    if method["customer"] is not None:
        raise ApiError(400, "The payment method you provided has already been attached to a customer.")
    if is_spent(ctx, text(method, "id")):
        raise ApiError(400, SPENT)
    method["customer"] = customer
    ctx.store.update(method)
    events.record(ctx, "payment_method.attached", method)
    return method


def detach(ctx: Context, params: Params, identifier: str) -> Json:
    """POST /v1/payment_methods/:id/detach: for ever, as at Stripe."""
    params.allow("expand")
    method = ctx.get("payment_method", identifier, "payment_method")
    if method["customer"] is None:
        raise ApiError(
            400, "The payment method you provided is not attached to a customer so detachment is impossible."
        )
    return expand(ctx, params, release(ctx, method))


def release(ctx: Context, method: Json) -> Json:
    """Take a payment method from its customer; it cannot be used again."""
    event = {**method}
    method["customer"] = None
    ctx.store.update(method)
    spend(ctx, text(method, "id"))
    events.record(ctx, "payment_method.detached", {**event, "customer": None})
    return method


def find(ctx: Context, identifier: str, *, status: int = 400) -> Json:
    """The payment method of this id; a ready-made id gives a new one each time. Raises ApiError where there is none."""
    card = cards.ready_made(identifier)
    return _saved(ctx, card) if card else ctx.get("payment_method", identifier, "payment_method", status=status)


def attached_to(ctx: Context, identifier: str, customer: str) -> None:
    """Raises ApiError where the payment method is not this customer's."""
    method = ctx.get("payment_method", identifier, "payment_method", status=400)
    if optional_text(method, "customer") != customer:
        raise ApiError(
            400, f"The customer does not have a payment method with the ID {identifier}.", param="payment_method"
        )


def card_of(ctx: Context, identifier: str) -> Card:
    """The physical card behind a payment method."""
    row = ctx.store.row("select card from payment_method_card where payment_method = ?", identifier)
    card = None if row is None else cards.by_name(str(row[0]))
    if card is None:
        raise LookupError(f"{identifier} has no card")
    return card


def is_spent(ctx: Context, identifier: str) -> bool:
    """Whether a payment method without customer was used already, or was detached."""
    return (
        ctx.store.row("select 1 from payment_method_card where payment_method = ? and spent = 1", identifier)
        is not None
    )


def spend(ctx: Context, identifier: str) -> None:
    """Mark a payment method as not to be used again."""
    ctx.store.run("update payment_method_card set spent = 1 where payment_method = ?", identifier)


def _card(params: Params) -> Card:
    params.allow("token", "number", "exp_month", "exp_year", "cvc")
    token = params.text("token")
    if token is not None:
        return cards.by_token(token)
    params.integer("exp_month")
    params.integer("exp_year")
    return cards.by_number(params.required("number"))


def _saved(ctx: Context, card: Card) -> Json:
    """A new payment method for a physical card."""
    details = {
        **card.details(),
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "display_brand": card.brand,
        "generated_from": None,
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
    method: Json = {
        **envelope("payment_method", ctx.created),
        "allow_redisplay": "unspecified",
        "billing_details": {**EMPTY_BILLING},
        "card": details,
        "customer": None,
        "metadata": {},
        "type": "card",
    }
    ctx.store.insert(method)
    ctx.store.run("insert into payment_method_card values (?, ?, 0)", text(method, "id"), card.name)
    return method
