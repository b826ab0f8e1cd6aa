"""Payment intents (https://docs.stripe.com/api/payment_intents)."""

from __future__ import annotations

from jobs.gateway.sandbox import confirmation, events
from jobs.gateway.sandbox.context import Context, envelope, expand, listing, token
from jobs.gateway.sandbox.params import Params, merged_metadata
from jobs.gateway.sandbox.wire import Answer, Json, invalid, optional_text, text, unexpected_state

AMOUNT_MAX = 99_999_999
MINIMUM = {"usd": 50, "aud": 50, "cad": 50, "eur": 50, "nzd": 50, "chf": 50, "sgd": 50, "gbp": 30, "jpy": 50}
"""The smallest charge in minor units; another currency has none here (https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts)."""
PLAIN = (
    "description",
    "receipt_email",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "setup_future_usage",
    "transfer_group",
)
COMMON = (
    "payment_method",
    "off_session",
    "error_on_requires_action",
    "expand",
    "return_url",
    "mandate",
    "mandate_data",
    "payment_method_options",
    "use_stripe_sdk",
    "receipt_email",
    "setup_future_usage",
    "allowed_payment_method_types",
    "payment_method_types",
)
CREATE = (
    *COMMON,
    *PLAIN,
    "amount",
    "currency",
    "customer",
    "confirm",
    "metadata",
    "automatic_payment_methods",
    "capture_method",
    "confirmation_method",
)
TYPES_REMOVED = "2026-09-30"
"""From this API version on ``payment_method_types`` is refused (https://docs.stripe.com/changelog/endive)."""
CANCELABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
CONFIRMABLE = CANCELABLE


def create(ctx: Context, params: Params) -> Answer:
    """POST /v1/payment_intents, and its confirmation where ``confirm`` says so."""
    params.allow(*CREATE)
    _check_types(ctx, params)
    intent = _new(ctx, params)
    ctx.store.insert(intent)
    events.record(ctx, "payment_intent.created", intent)
    answer = _confirm(ctx, params, intent) if params.flag("confirm") else Answer(200, intent)
    return _expanded(ctx, params, answer)


def retrieve(ctx: Context, params: Params, identifier: str) -> Json:
    """GET /v1/payment_intents/:id"""
    params.allow("expand", "client_secret")
    return expand(ctx, params, ctx.get("payment_intent", identifier, "intent"))


def index(ctx: Context, params: Params) -> Json:
    """GET /v1/payment_intents, of a ``customer``, newest first."""
    params.allow("limit", "starting_after", "ending_before", "created", "customer", "expand")
    found = listing(ctx, params, "payment_intent", "/v1/payment_intents", equal={"customer": params.text("customer")})
    return expand(ctx, params, found)


def confirm(ctx: Context, params: Params, identifier: str) -> Answer:
    """POST /v1/payment_intents/:id/confirm"""
    params.allow(*COMMON)
    _check_types(ctx, params)
    intent = ctx.get("payment_intent", identifier, "intent")
    _check_confirmable(intent)
    return _expanded(ctx, params, _confirm(ctx, params, intent))


def cancel(ctx: Context, params: Params, identifier: str) -> Json:
    """POST /v1/payment_intents/:id/cancel: after it no charge can follow."""
    params.allow("cancellation_reason", "expand")
    reason = params.one_of("cancellation_reason", "duplicate", "fraudulent", "requested_by_customer", "abandoned")
    intent = ctx.get("payment_intent", identifier, "intent")
    status = text(intent, "status")
    if status not in CANCELABLE:
        raise unexpected_state(
            f"You cannot cancel this PaymentIntent because it has a status of {status}. Only a PaymentIntent with "
            f"one of the following statuses may be canceled: {', '.join(CANCELABLE)}.",
            intent,
        )
    intent.update(status="canceled", canceled_at=ctx.created, cancellation_reason=reason, next_action=None)
    ctx.store.update(intent)
    events.record(ctx, "payment_intent.canceled", intent)
    return expand(ctx, params, intent)


def _new(ctx: Context, params: Params) -> Json:
    amount, currency = _amount(params)
    customer = params.text("customer")
    if customer is not None:
        ctx.get("customer", customer, "customer", status=400)
    base = envelope("payment_intent", ctx.created)
    intent: Json = {
        **base,
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": _capture(params),
        "client_secret": f"{base['id']}_secret_{token(25)}",
        "confirmation_method": "automatic",
        "currency": currency,
        "customer": customer,
        "last_payment_error": None,
        "latest_charge": None,
        "metadata": merged_metadata(params, {}),
        "next_action": None,
        "payment_method": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": None,
        "review": None,
        "shipping": None,
        "status": "requires_payment_method",
        **{name: params.text(name) for name in PLAIN},
    }
    if not params.flag("confirm") and (params.given("off_session") or params.given("error_on_requires_action")):
        raise invalid("off_session and error_on_requires_action can only be used when confirm is true.", "off_session")
    _give_method(ctx, params, intent)
    return intent


def _amount(params: Params) -> tuple[int, str]:
    params.required("amount")
    amount, currency = params.integer("amount") or 0, params.required("currency").lower()
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
        raise invalid(f"Invalid currency: {currency}", "currency")
    if amount < 1:
        raise invalid("This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer")
    if amount < MINIMUM.get(currency, 1):
        raise invalid(
            "The amount is below the smallest that can be charged in this currency.", "amount", "amount_too_small"
        )
    if amount > AMOUNT_MAX:
        raise invalid(f"Amount must be no more than {AMOUNT_MAX} in minor units", "amount", "amount_too_large")
    return amount, currency


def _capture(params: Params) -> str:
    return params.one_of("capture_method", "automatic", "automatic_async") or "automatic_async"


def _check_types(ctx: Context, params: Params) -> None:
    if params.given("payment_method_types") and ctx.api_version >= TYPES_REMOVED:
        raise invalid(
            "payment_method_types is no longer supported; use allowed_payment_method_types.",
            "payment_method_types",
            "payment_method_types_no_longer_supported",
        )
    for name in ("payment_method_types", "allowed_payment_method_types"):
        if params.given(name) and "card" not in params.items(name):
            raise invalid("The sandbox has only payment methods of type card.", name)


def _give_method(ctx: Context, params: Params, intent: Json) -> None:
    """Put the payment method of the request, if any, on the intent."""
    identifier = params.text("payment_method")
    if identifier is None:
        return
    method = confirmation.usable_method(ctx, identifier, optional_text(intent, "customer"))
    intent.update(payment_method=method["id"], status="requires_confirmation")


def _check_confirmable(intent: Json) -> None:
    status = text(intent, "status")
    if status == "succeeded":
        raise unexpected_state(
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed.",
            intent,
        )
    if status not in CONFIRMABLE:
        raise unexpected_state(
            f"You cannot confirm this PaymentIntent because it has a status of {status}. Only a PaymentIntent with "
            f"one of the following statuses may be confirmed: {', '.join(CONFIRMABLE)}.",
            intent,
        )


def _confirm(ctx: Context, params: Params, intent: Json) -> Answer:
    _give_method(ctx, params, intent)
    if intent["payment_method"] is None:
        raise unexpected_state(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a "
            "payment method.",
            intent,
        )
    intent.update({name: params.text(name) for name in ("receipt_email", "setup_future_usage") if params.given(name)})
    return confirmation.confirm(ctx, intent, unattended=_unattended(params))


def _unattended(params: Params) -> bool:
    """``off_session`` is a boolean, or says why: ``one_off`` or ``recurring``."""
    return (
        params.text("off_session") in ("one_off", "recurring")
        or params.flag("off_session")
        or params.flag("error_on_requires_action")
    )


def _expanded(ctx: Context, params: Params, answer: Answer) -> Answer:
    if answer.status != 200:
        return answer
    return Answer(200, expand(ctx, params, {**answer.body}))
