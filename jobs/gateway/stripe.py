"""The processor through Stripe's official SDK. The only module that knows the SDK; its errors are mapped here, once.

Trap: the SDK retries nothing and waits 80 s by itself, and raises every 402 as `CardError`. Here a decline is an
answer, not an error: `confirm` returns the intent as it now stands. Tenacity repeats, with the same key and the same
bytes, only what Stripe says may be repeated: a lost connection, 409 while the key is in use, 429, and 5xx marked
`stripe-should-retry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar
from uuid import uuid4

import orjson
import stripe
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential_jitter,
)

from jobs.declines import Decline
from jobs.errors import RefillError, Refused

TRIES: Final = 3
TRIES_BOUND_S: Final = 45
_CLOCKS_APART_S: Final = 300
SANDBOX_TOKEN: Final = "tok_sandbox_"  # noqa: S105 - the prefix of the sandbox's test cards, no secret

Answer = TypeVar("Answer")


class ProcessorUnavailable(RefillError):
    """The processor gave no usable answer: whether it acted is not known."""

    code = "processor_unavailable"


class ProcessorRefused(Refused):
    """The processor refused the request as it stands; nothing was done."""

    code = "processor_refused"


class UnknownPaymentMethod(Refused):
    """The processor knows no such payment method, or it is no card."""

    code = "unknown_payment_method"


class CardDeclined(Refused):
    """The card was declined when it was to be saved."""

    code = "card_declined"


class TestCardUnavailable(Refused):
    """Test cards by name exist only at the sandbox processor."""

    code = "test_card_unavailable"


@dataclass(frozen=True, slots=True)
class SavedCard:
    """A payment method with its customer; `fingerprint` is the same physical card wherever it is saved."""

    payment_method: str
    customer: str
    fingerprint: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment intent as the processor last showed it; `amount` in minor units. `decline` is of its last attempt."""

    intent_id: str
    status: str
    amount: int
    currency: str
    decline: Decline | None = None


class StripeGateway:
    """Stripe's API at one base address. Safe to share between threads."""

    def __init__(self, api_key: str, api_base: str, timeout_s: float) -> None:
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base.rstrip("/")},
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=timeout_s),
        ).v1

    def save_card(self, payment_method: str, organisation: str) -> SavedCard:
        """The card behind a payment method that upstream's checkout made; attached to a customer where it has none.

        Raises UnknownPaymentMethod, ProcessorUnavailable.
        """
        try:
            method = _tried(lambda: self._client.payment_methods.retrieve(payment_method))
            if method.customer is None:
                method = self._attach(payment_method, organisation)
        except ProcessorRefused as refusal:
            raise UnknownPaymentMethod(f"The processor does not accept {payment_method}: {refusal}") from refusal
        return _saved(method)

    def save_test_card(self, name: str, organisation: str) -> SavedCard:
        """A card of the sandbox by its name, such as `ok` or `declined`; `ok:7` is another card that behaves alike.

        Raises TestCardUnavailable, ProcessorUnavailable.
        """
        try:
            method = _tried(
                lambda: self._client.payment_methods.create(
                    {"type": "card", "card": {"token": f"{SANDBOX_TOKEN}{name}"}}
                )
            )
            return _saved(self._attach(method.id, organisation))
        except ProcessorRefused as refusal:
            raise TestCardUnavailable(f"No test card {name!r} at this processor: {refusal}") from refusal

    def create(self, request: Mapping[str, object], key: str) -> Intent:
        """A payment intent, unconfirmed: no money can move yet. Raises ProcessorRefused, ProcessorUnavailable."""
        params = {**request, "confirm": False}
        return _intent(_tried(lambda: self._client.payment_intents.create(params, {"idempotency_key": key})))  # type: ignore[arg-type]

    def confirm(self, intent_id: str, key: str) -> Intent:
        """Sends the intent to the card network and returns it as it then stands, declined or not.

        Raises ProcessorUnavailable where the outcome is unknown, and ProcessorRefused where the intent cannot be
        confirmed as it stands (it may have been before): in both cases read it.
        """
        options: stripe.RequestOptions = {"idempotency_key": key}
        try:
            return _intent(
                _tried(lambda: self._client.payment_intents.confirm(intent_id, {"off_session": True}, options))
            )
        except CardDeclined as declined:
            return _declined_intent(declined)

    def read(self, intent_id: str) -> Intent:
        """The intent as it stands. Raises ProcessorRefused where there is none, ProcessorUnavailable."""
        return _intent(_tried(lambda: self._client.payment_intents.retrieve(intent_id)))

    def find(self, customer: str, attempt_id: str, since: datetime) -> Intent | None:
        """The intent of an attempt, looked for by the attempt's id among those of its customer made since then.

        Raises ProcessorRefused, ProcessorUnavailable.
        """
        params: stripe.params.PaymentIntentListParams = {
            "customer": customer,
            "created": {"gte": int(since.timestamp()) - _CLOCKS_APART_S},
            "limit": 100,
        }
        made = _tried(lambda: list(self._client.payment_intents.list(params).auto_paging_iter()))
        return next(
            (_intent(intent) for intent in made if getattr(intent.metadata, "refill_attempt", None) == attempt_id), None
        )

    def cancel(self, intent_id: str, key: str) -> Intent:
        """Cancels the intent: success proves that no charge follows. Raises ProcessorRefused, ProcessorUnavailable."""
        return _intent(_tried(lambda: self._client.payment_intents.cancel(intent_id, {}, {"idempotency_key": key})))

    def _attach(self, payment_method: str, organisation: str) -> stripe.PaymentMethod:
        named: stripe.params.CustomerCreateParams = {"name": organisation, "metadata": {"organisation": organisation}}
        made, tied = _fresh_key(), _fresh_key()
        customer = _tried(lambda: self._client.customers.create(named, made))
        return _tried(lambda: self._client.payment_methods.attach(payment_method, {"customer": customer.id}, tied))


def _fresh_key() -> stripe.RequestOptions:
    """One key for all tries of a request: the SDK would make a new one for each, and a lost answer a second object."""
    return {"idempotency_key": str(uuid4())}


def _tried(call: Callable[[], Answer]) -> Answer:
    """The answer of a call, tried up to three times. Every error of the SDK is mapped."""
    retrying = Retrying(
        retry=retry_if_exception(_may_repeat),
        stop=stop_after_attempt(TRIES) | stop_after_delay(TRIES_BOUND_S),
        wait=wait_exponential_jitter(multiplier=0.2, max=2.0, jitter=0.3),
        reraise=True,
    )
    try:
        return retrying(call)
    except stripe.CardError as declined:
        raise CardDeclined(declined.user_message or "The card was declined.", body=declined.http_body) from declined
    except (stripe.InvalidRequestError, stripe.IdempotencyError) as refusal:
        if refusal.http_status == 409:  # still being worked on by an earlier request of ours
            raise ProcessorUnavailable(f"The processor is still at it: {refusal.user_message}") from refusal
        raise ProcessorRefused(
            refusal.user_message or "The processor refused.", processor_code=refusal.code
        ) from refusal
    except stripe.StripeError as failure:
        raise ProcessorUnavailable(
            f"The processor gave no usable answer: {failure.user_message or type(failure).__name__}",
            http_status=failure.http_status,
        ) from failure


def _may_repeat(error: BaseException) -> bool:
    if isinstance(error, stripe.APIConnectionError | stripe.RateLimitError):
        return True
    if not isinstance(error, stripe.StripeError) or error.http_status is None:
        return False
    if error.http_status == 409:
        return True
    told = {name.lower(): value for name, value in (error.headers or {}).items()}.get("stripe-should-retry")
    return error.http_status >= 500 and told == "true"


def _saved(method: stripe.PaymentMethod) -> SavedCard:
    card = method.card
    customer = method.customer if isinstance(method.customer, str) else getattr(method.customer, "id", None)
    if card is None or card.fingerprint is None or customer is None:
        raise UnknownPaymentMethod(f"{method.id} is not a card that can be saved.")
    return SavedCard(method.id, customer, card.fingerprint, card.brand, card.last4, card.exp_month, card.exp_year)


def _intent(intent: stripe.PaymentIntent) -> Intent:
    error = intent.last_payment_error
    decline = (
        None if error is None else _decline({name: getattr(error, name, None) for name in _SIGNALS}, intent.status)
    )
    return Intent(intent.id, intent.status, intent.amount, intent.currency.upper(), decline)


def _declined_intent(declined: CardDeclined) -> Intent:
    """The intent that a 402 carries. The SDK's `error.error` is no dict, so the body itself is read."""
    said = orjson.loads(str(declined.details["body"] or "{}")).get("error", {})
    intent = said.get("payment_intent")
    if intent is None:
        raise ProcessorUnavailable("The processor declined without naming the intent.") from declined
    return Intent(
        intent["id"], intent["status"], intent["amount"], intent["currency"].upper(), _decline(said, intent["status"])
    )


_SIGNALS: Final = ("code", "decline_code", "advice_code", "network_decline_code", "network_advice_code")


def _decline(signals: Mapping[str, object], status: str) -> Decline:
    found = {name: str(signals[name]) for name in _SIGNALS if signals.get(name) is not None}
    return Decline(**found, status=status)
