"""Short ways to do over the SDK what most tests of a processor begin with."""

from __future__ import annotations

from typing import Any

import stripe


def saved_card(client: stripe.StripeClient, name: str) -> tuple[str, str]:
    """A new customer with the test card of this name: the ids of customer and payment method."""
    customer = client.v1.customers.create({"email": "holder@example.com"})
    method = client.v1.payment_methods.create({"type": "card", "card": {"token": f"tok_sandbox_{name}"}})
    client.v1.payment_methods.attach(method.id, {"customer": customer.id})
    return customer.id, method.id


def intent_for(client: stripe.StripeClient, name: str, amount: int = 1000) -> stripe.PaymentIntent:
    """An unconfirmed payment intent on a card that was saved for it."""
    customer, method = saved_card(client, name)
    return client.v1.payment_intents.create(
        {"amount": amount, "currency": "usd", "customer": customer, "payment_method": method}
    )


def paid(client: stripe.StripeClient, amount: int = 1000) -> stripe.PaymentIntent:
    """A payment that succeeded."""
    return client.v1.payment_intents.confirm(intent_for(client, "ok", amount).id, {"off_session": True})


def error_of(refused: stripe.StripeError) -> dict[str, Any]:
    """The error object as it was sent."""
    body = refused.json_body
    assert isinstance(body, dict)
    error = body["error"]
    assert isinstance(error, dict)
    return error
