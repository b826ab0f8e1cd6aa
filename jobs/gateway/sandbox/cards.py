"""The test cards, each named by its behaviour, and by a suffix where another physical card like it is wanted.

``ok`` succeeds; ``ok:7`` and ``ok:alice`` are two more cards that succeed. The fingerprint belongs to the full name,
so the same name is the same physical card wherever it is saved.
``decline__<decline_code>[__mc<NN>|__visa<CODE>][__advice_<advice>]`` declines with exactly the signals named, and no
others.

Sources: messages, codes and test numbers from Stripe's testing page (https://docs.stripe.com/testing), decline and
advice codes from https://docs.stripe.com/declines/codes, network codes from ISO 8583 as Visa uses it. As on the
testing page, ``expired_card`` and ``processing_error`` come as an error code without a decline code.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from enum import Enum

from jobs.gateway.sandbox.wire import Json, invalid

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
OWN_CODES = frozenset(
    {
        "authentication_required",
        "expired_card",
        "incorrect_cvc",
        "incorrect_number",
        "incorrect_zip",
        "invalid_cvc",
        "invalid_expiry_month",
        "invalid_expiry_year",
        "invalid_number",
        "processing_error",
    }
)
"""Decline codes that are error codes too; every other decline has the error code ``card_declined``."""
BLOCKED = frozenset({"highest_risk_level", "merchant_blacklist", "fraudulent"})
"""Declines that the processor itself makes, before the network is asked."""
ADVICE = frozenset({"confirm_card_data", "do_not_try_again", "try_again_later"})
DECLINE_NAME = re.compile(
    r"decline__(?P<code>[a-z]+(?:_[a-z]+)*)(?:__mc(?P<mc>[0-9]{2})|__visa(?P<visa>[0-9A-Z]{2}))?(?:__advice_(?P<advice>[a-z_]+))?"
)
DECLINED = "Your card was declined."


class Behaviour(Enum):
    """What a confirmation with this card comes to."""

    APPROVE = "approve"
    APPROVE_ONCE = "approve_once"
    DECLINE = "decline"
    AUTHENTICATE = "authenticate"
    PROCESS = "process"


@dataclass(frozen=True)
class Decline:
    """How a card refuses, in Stripe's words."""

    code: str
    message: str
    decline_code: str | None = None
    advice_code: str | None = None
    network_advice_code: str | None = None
    network_decline_code: str | None = None

    @property
    def reason(self) -> str:
        """The reason as ``charge.outcome`` gives it."""
        return self.decline_code or self.code

    def fields(self) -> Json:
        """The codes as the error object carries them, the absent ones left out."""
        parts: Json = {
            "advice_code": self.advice_code,
            "code": self.code,
            "decline_code": self.decline_code,
            "message": self.message,
            "network_advice_code": self.network_advice_code,
            "network_decline_code": self.network_decline_code,
        }
        return {name: value for name, value in parts.items() if value is not None}

    def outcome(self) -> Json:
        """``charge.outcome``."""
        blocked = self.reason in BLOCKED
        return {
            "advice_code": self.advice_code,
            "network_advice_code": self.network_advice_code,
            "network_decline_code": self.network_decline_code,
            "network_status": "not_sent_to_network" if blocked else "declined_by_network",
            "reason": self.reason,
            "risk_level": "highest" if blocked else "normal",
            "risk_score": 92 if blocked else 12,
            "seller_message": "Stripe blocked this payment as too risky."
            if blocked
            else f"The bank returned the decline code `{self.reason}`.",
            "type": "blocked" if blocked else "issuer_declined",
        }


GENERIC = Decline("card_declined", DECLINED, "generic_decline", "try_again_later", network_decline_code="01")
AUTHENTICATION = Decline(
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "authentication_required",
    network_decline_code="1A",
)


@dataclass(frozen=True)
class Card:
    """One physical card. ``name`` is its full test name; ``decline`` is how it refuses, where it may."""

    name: str
    behaviour: Behaviour
    last4: str
    decline: Decline = GENERIC
    brand: str = "visa"
    exp_month: int = 12
    exp_year: int = 2034

    @property
    def fingerprint(self) -> str:
        """The same for the same physical card, wherever it is saved."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return "".join(ALPHABET[byte % len(ALPHABET)] for byte in digest[:16])

    def details(self) -> Json:
        """The card as payment methods and charges show it."""
        return {
            "brand": self.brand,
            "country": "US",
            "exp_month": self.exp_month,
            "exp_year": self.exp_year,
            "fingerprint": self.fingerprint,
            "funding": "credit",
            "last4": self.last4,
        }


def _declining(name: str, last4: str, decline: Decline) -> Card:
    return Card(name, Behaviour.DECLINE, last4, decline)


NAMED = {
    card.name: card
    for card in (
        Card("ok", Behaviour.APPROVE, "4242"),
        Card("ok_then_declined", Behaviour.APPROVE_ONCE, "0341"),
        Card("processing", Behaviour.PROCESS, "0077"),
        Card("authentication_required", Behaviour.AUTHENTICATE, "3184", AUTHENTICATION),
        Card("mastercard", Behaviour.APPROVE, "4444", brand="mastercard"),
        Card("amex", Behaviour.APPROVE, "8431", brand="amex"),
        _declining("declined", "0002", GENERIC),
        _declining(
            "insufficient_funds",
            "9995",
            Decline(
                "card_declined",
                "Your card has insufficient funds.",
                "insufficient_funds",
                "try_again_later",
                network_decline_code="51",
            ),
        ),
        _declining(
            "lost_card",
            "9987",
            Decline("card_declined", DECLINED, "lost_card", "do_not_try_again", network_decline_code="41"),
        ),
        _declining(
            "stolen_card",
            "9979",
            Decline("card_declined", DECLINED, "stolen_card", "do_not_try_again", network_decline_code="43"),
        ),
        _declining(
            "expired_card",
            "0069",
            Decline("expired_card", "Your card has expired.", None, "confirm_card_data", network_decline_code="54"),
        ),
        _declining(
            "processing_error",
            "0119",
            Decline(
                "processing_error",
                "An error occurred while processing your card. Try again in a little bit.",
                None,
                "try_again_later",
                network_decline_code="96",
            ),
        ),
        _declining(
            "velocity",
            "6975",
            Decline(
                "card_declined",
                "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
                "card_velocity_exceeded",
                "try_again_later",
                network_decline_code="65",
            ),
        ),
    )
}

NUMBERS = {
    "4242424242424242": "ok",
    "4000056655665556": "ok:debit",
    "4000000000000077": "ok:0077",
    "5555555555554444": "mastercard",
    "378282246310005": "amex:0005",
    "371449635398431": "amex",
    "4000000000000002": "declined",
    "4000000000000341": "declined:0341",
    "4000000000009995": "insufficient_funds",
    "4000000000009987": "lost_card",
    "4000000000009979": "stolen_card",
    "4000000000000069": "expired_card",
    "4000000000000119": "processing_error",
    "4000000000006975": "velocity",
    "4000000000000127": "decline__incorrect_cvc",
    "4100000000000019": "decline__fraudulent",
    "4000002760003184": "authentication_required",
    "4000002500003155": "authentication_required:3155",
}
READY_MADE = {
    "visa": "ok",
    "visa_debit": "ok:debit",
    "mastercard": "mastercard",
    "amex": "amex",
    "bypassPending": "ok:0077",
    "chargeDeclined": "declined",
    "visa_chargeDeclined": "declined",
    "chargeCustomerFail": "declined:0341",
    "chargeDeclinedInsufficientFunds": "insufficient_funds",
    "visa_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "visa_chargeDeclinedLostCard": "lost_card",
    "visa_chargeDeclinedStolenCard": "stolen_card",
    "chargeDeclinedExpiredCard": "expired_card",
    "chargeDeclinedProcessingError": "processing_error",
    "visa_chargeDeclinedVelocityLimitExceeded": "velocity",
    "chargeDeclinedIncorrectCvc": "decline__incorrect_cvc",
    "chargeDeclinedFraudulent": "decline__fraudulent",
    "authenticationRequired": "authentication_required",
    "threeDSecure2Required": "authentication_required",
}
"""Stripe's own names after ``pm_card_`` and ``tok_``."""


def by_name(name: str) -> Card | None:
    """The card of this full name (``ok``, ``ok:7``, ``decline__do_not_honor__mc03``), or None where no card has it."""
    behaviour, _, suffix = name.partition(":")
    card = NAMED.get(behaviour) or _by_decline(behaviour)
    if card is None or name.endswith(":"):
        return None
    return replace(card, name=name, last4=_last4(name)) if suffix else card


def _by_decline(name: str) -> Card | None:
    match = DECLINE_NAME.fullmatch(name)
    if match is None or match["advice"] not in {None, *ADVICE}:
        return None
    code = match["code"]
    decline = Decline(
        code if code in OWN_CODES else "card_declined", DECLINED, code, match["advice"], match["mc"], match["visa"]
    )
    return Card(name, Behaviour.DECLINE, _last4(name), decline, brand="mastercard" if match["mc"] else "visa")


def _last4(name: str) -> str:
    return f"{int.from_bytes(hashlib.sha256(name.encode()).digest()[-4:]) % 10000:04d}"


def by_token(token: str) -> Card:
    """The card behind ``tok_sandbox_<name>`` or one of Stripe's test tokens. Raises ApiError where there is none."""
    name = token.removeprefix("tok_sandbox_")
    known = name if name != token else READY_MADE.get(token.removeprefix("tok_"), "")
    card = by_name(known)
    if card is None:
        raise invalid(f"No such token: '{token}'", "card[token]", "resource_missing")
    return card


def by_number(number: str) -> Card:
    """The card of one of Stripe's test numbers. Raises ApiError for any other: a real one must never come here."""
    name = NUMBERS.get(re.sub(r"[ -]", "", number))
    card = None if name is None else by_name(name)
    if card is None:
        raise invalid("Your card number is not one of Stripe's test numbers.", "card[number]", "incorrect_number")
    return card


def ready_made(payment_method: str) -> Card | None:
    """The card of a ready-made id such as ``pm_card_visa``, or None."""
    return (
        by_name(READY_MADE.get(payment_method.removeprefix("pm_card_"), ""))
        if payment_method.startswith("pm_card_")
        else None
    )
