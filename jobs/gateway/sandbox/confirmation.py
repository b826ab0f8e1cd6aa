"""What a confirmation comes to: the card network is asked, and the intent, its charge and the events follow.

::

    requires_payment_method -> requires_confirmation -> succeeded
            ^                        |   |-> requires_action
            |______ declined ________|   |-> processing -> succeeded, or declined
"""

from __future__ import annotations

from dataclasses import replace

from jobs.gateway.sandbox import charges, events, payment_methods
from jobs.gateway.sandbox.cards import GENERIC, Behaviour, Card, Decline
from jobs.gateway.sandbox.context import Context, token
from jobs.gateway.sandbox.wire import DOCS, Answer, ApiError, Json, text


def usable_method(ctx: Context, identifier: str, customer: str | None) -> Json:
    """The payment method for a payment of this customer. Raises ApiError where it may not be used so."""
    method = payment_methods.find(ctx, identifier)
    owner = method["customer"]
    if owner is None and payment_methods.is_spent(ctx, text(method, "id")):
        raise ApiError(400, payment_methods.SPENT)
    if owner is not None and customer is None:
        raise ApiError(
            400,
            "The PaymentMethod you provided belongs to a Customer. Please include the Customer in the `customer` "
            "parameter on the PaymentIntent.",
            param="payment_method",
        )
    if owner is not None and owner != customer:
        raise ApiError(
            400,
            "The provided PaymentMethod cannot be used with this PaymentIntent because it belongs to another Customer.",
            param="payment_method",
        )
    return method


def confirm(ctx: Context, intent: Json, *, unattended: bool) -> Answer:
    """Ask the card network for the money of an intent that has a payment method.

    ``unattended`` says that no customer is there to authenticate, so a card that wants it declines.
    """
    customer = intent["customer"]
    method = usable_method(ctx, text(intent, "payment_method"), customer if isinstance(customer, str) else None)
    card = payment_methods.card_of(ctx, text(method, "id"))
    intent.update(payment_method=method["id"], next_action=None, last_payment_error=None)
    if method["customer"] is None:
        payment_methods.spend(ctx, text(method, "id"))
    if card.behaviour is Behaviour.AUTHENTICATE and not unattended and not ctx.force_processing:
        return _challenge(ctx, intent)
    charge = charges.open_charge(ctx, intent, method, card)
    intent["latest_charge"] = charge["id"]
    if ctx.force_processing or card.behaviour is Behaviour.PROCESS:
        return _hold(ctx, intent)
    return _conclude(ctx, intent, charge, method, card)


def settle_due(ctx: Context) -> None:
    """Bring every processing intent whose time has come to its end, as of that time."""
    due = ctx.store.rows("select payment_intent, due_at from pending where due_at <= ? order by due_at", ctx.now)
    for identifier, due_at in due:
        then = replace(ctx, now=float(due_at or 0), request_id=None, idempotency_key=None)
        _settle(then, ctx.get("payment_intent", str(identifier)))
        ctx.store.run("delete from pending where payment_intent = ?", identifier)


def _settle(ctx: Context, intent: Json) -> None:
    charge = charges.of_intent(ctx, intent)
    method = ctx.get("payment_method", text(charge, "payment_method"))
    _conclude(ctx, intent, charge, method, payment_methods.card_of(ctx, text(method, "id")))


def _conclude(ctx: Context, intent: Json, charge: Json, method: Json, card: Card) -> Answer:
    refusal = _verdict(ctx, card)
    if refusal is None:
        return _succeed(ctx, intent, charge)
    return _decline(ctx, intent, charge, method, refusal)


def _verdict(ctx: Context, card: Card) -> Decline | None:
    """How the card refuses this time, or None where it pays. Counts the confirmation on the physical card."""
    ctx.store.run(
        "insert into confirmation_count values (?, 1) on conflict do update set confirmations = confirmations + 1",
        card.fingerprint,
    )
    row = ctx.store.row("select confirmations from confirmation_count where fingerprint = ?", card.fingerprint)
    if card.behaviour is Behaviour.APPROVE_ONCE:
        return None if row == (1,) else GENERIC
    return card.decline if card.behaviour in (Behaviour.DECLINE, Behaviour.AUTHENTICATE) else None


def _succeed(ctx: Context, intent: Json, charge: Json) -> Answer:
    charges.approve(ctx, charge)
    return _move(ctx, intent, "succeeded", "payment_intent.succeeded", amount_received=intent["amount"])


def _hold(ctx: Context, intent: Json) -> Answer:
    ctx.store.run("insert into pending values (?, ?)", text(intent, "id"), ctx.now + ctx.processing_s)
    return _move(ctx, intent, "processing", "payment_intent.processing")


def _challenge(ctx: Context, intent: Json) -> Answer:
    action = {
        "type": "use_stripe_sdk",
        "use_stripe_sdk": {"type": "three_d_secure_redirect", "source": f"src_1{token(23)}"},
    }
    return _move(ctx, intent, "requires_action", "payment_intent.requires_action", next_action=action)


def _decline(ctx: Context, intent: Json, charge: Json, method: Json, refusal: Decline) -> Answer:
    """The intent goes back to the start without its payment method, and says why."""
    charges.decline(ctx, charge, refusal)
    error: Json = {
        **refusal.fields(),
        "charge": charge["id"],
        "doc_url": DOCS + refusal.code.replace("_", "-"),
        "payment_method": method,
        "type": "card_error",
    }
    _move(
        ctx,
        intent,
        "requires_payment_method",
        "payment_intent.payment_failed",
        payment_method=None,
        last_payment_error=error,
    )
    return Answer(402, {"error": {**error, "payment_intent": intent}})


def _move(ctx: Context, intent: Json, status: str, event: str, **changes: object) -> Answer:
    intent.update(changes, status=status)
    ctx.store.update(intent)
    events.record(ctx, event, intent)
    return Answer(200, intent)
