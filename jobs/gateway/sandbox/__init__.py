"""A card processor for first runs, tests and demos: a process of its own that speaks Stripe's HTTP API on loopback.

The official SDK works against it unmodified: give it this process's address as ``base_addresses={"api": ...}``.

The same as Stripe
    Form-encoded requests, ids, objects, lists and paging, ``expand[]``, Bearer and Basic keys, ``Request-Id`` and
    ``Stripe-Version`` headers; the states of a payment intent; a decline as HTTP 402 with decline, advice and
    network codes in the error, in ``last_payment_error`` and in ``charge.outcome``; single use of a payment
    method that belongs to no customer; idempotency keys (first answer replayed for 24 h, a declined or failed one
    too; 400 on other parameters; 409 while the first request runs); events in the order of what happened.

Not the same
    Only cards. Only automatic capture, so no ``requires_capture``. A card that will decline can still be attached.
    No customer can complete an authentication: ``requires_action`` is left by another payment method or by
    cancelling. A processing intent cannot be cancelled and settles after a settable time, noticed when something is
    next read. Refunds succeed at once. No balance transactions, webhooks, fees, Connect, search, API versions or
    rate limits of its own; live mode never. One API key is accepted; started again with another, the
    process shows the same objects and other idempotency keys.

Test cards are named in :mod:`~jobs.gateway.sandbox.cards`, faults on request in :mod:`~jobs.gateway.sandbox.faults`,
the other control calls (under ``/_sandbox/``, without a key) in :mod:`~jobs.gateway.sandbox.control`.

State is one SQLite file. What was answered was committed before, effect and stored answer in one transaction, so that a
killed process loses nothing that it said.
"""

from jobs.gateway.sandbox.server import serve

__all__ = ["serve"]
