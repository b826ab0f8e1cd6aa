"""What a decline means, and what follows from it. Pure: the table below is the whole of it.

A decline carries up to five signals: Mastercard's merchant advice code, Visa's response code, Stripe's advice code, its
decline code (or error code), and the state of the payment intent. Each is looked up; **the strictest wins**:

    never > needs_customer > new_details > operator > reconcile > retry

Where several signals only ask for a delay, all of them are kept: before each retry the longest delay, and a pause as
soon as one of them pauses. One exception, or it would shorten every other schedule: the advice `try_again_later`
comes with most declines and says no more than that a retry is allowed, so it counts only where no other signal is
known. A network's code is read when the card is of that network, or when the card's network is not known (strictness
is the safe side). Whatever else is decided, `duplicate_transaction` is reconciled: a payment may have been taken. A
decline of which no signal is in the table is tried once more after 24 hours, then paused.

Sources: Visa Core Rules and Product and Service Rules, table 7-2 (April 2026), whose category 1 is what an issuer never
approves; Mastercard Transaction Processing Excellence, the merchant advice codes as processors publish them (Braintree,
Solidgate, payabl.); Stripe's pages on decline codes and on retrying issuer declines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final


class Action(IntEnum):
    """What a decline asks for; the greater, the stricter."""

    RETRY = 1
    RECONCILE = 2
    OPERATOR = 3
    NEW_DETAILS = 4
    NEEDS_CUSTOMER = 5
    NEVER = 6


class Source(StrEnum):
    """Where a signal was found, in the order in which equally strict ones are named as the reason."""

    MASTERCARD_ADVICE = "network_advice_code (Mastercard)"
    VISA_RESPONSE = "network_decline_code (Visa)"
    ADVICE = "advice_code"
    DECLINE = "decline_code"
    STATUS = "status"


class Afterwards(StrEnum):
    """What follows when every delay has been used."""

    PAUSE = "pause"
    LAST_DELAY = "last_delay"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: its signals, each with its meaning in a few words, and what follows."""

    action: Action
    signals: Mapping[Source, Mapping[str, str]]
    delays: tuple[timedelta, ...] = ()
    afterwards: Afterwards = Afterwards.PAUSE


@dataclass(frozen=True, slots=True)
class Signal:
    """One code of a decline that the table knows."""

    source: Source
    code: str
    words: str
    rule: Rule

    def __str__(self) -> str:
        return f"{self.source} {self.code}: {self.words}"


@dataclass(frozen=True, slots=True)
class Decline:
    """What the processor said, by its own names; ``status`` is the payment intent's, ``brand`` the card's."""

    code: str | None = None
    decline_code: str | None = None
    advice_code: str | None = None
    network_decline_code: str | None = None
    network_advice_code: str | None = None
    brand: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a decline asks for. ``delays`` are by the number of the consecutive decline, from the first.

    ``reason`` names the decisive signals for whoever works on it, ``words`` says the same to the card's holder.
    """

    action: Action
    reason: str
    words: str
    delays: tuple[timedelta, ...] = ()
    afterwards: Afterwards = Afterwards.PAUSE
    reconcile: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now.

    ``not_before``: no attempt until then. ``pause``: no attempt until somebody acts. ``block``: no attempt on this
    fingerprint by any account. ``reconcile``: read the truth at the processor before anything else.
    """

    not_before: datetime | None = None
    pause: bool = False
    block: bool = False
    reconcile: bool = False
    tell_holder: bool = False
    tell_operator: bool = False


def _hours(*hours: int) -> tuple[timedelta, ...]:
    return tuple(timedelta(hours=hour) for hour in hours)


_NEVER: Final = Rule(
    Action.NEVER,
    {
        Source.MASTERCARD_ADVICE: {
            "03": "do not try again: the account is closed or fraudulent",
            "21": "the cardholder stopped these payments",
        },
        Source.VISA_RESPONSE: {
            "04": "the card is to be picked up",
            "07": "the card is to be picked up, fraud is suspected",
            "12": "the transaction is not valid for this card",
            "14": "there is no such card number",
            "15": "there is no such issuer",
            "41": "the card is reported lost",
            "43": "the card is reported stolen",
            "46": "the account is closed",
            "57": "this card is not permitted such payments",
            "R0": "the cardholder stopped this payment",
            "R1": "the cardholder stopped all payments to this merchant",
            "R3": "the cardholder stopped all recurring payments",
        },
        Source.ADVICE: {"do_not_try_again": "the issuer will not approve this card"},
        Source.DECLINE: {
            "lost_card": "the card is reported lost",
            "stolen_card": "the card is reported stolen",
            "pickup_card": "the card is to be withdrawn from use",
            "restricted_card": "the card is restricted, perhaps reported lost or stolen",
            "fraudulent": "the processor suspects fraud",
            "merchant_blacklist": "the card is on the merchant's own block list",
            "highest_risk_level": "the processor's risk rules blocked it",
            "invalid_account": "the card or its account is not valid",
            "revocation_of_authorization": "the cardholder stopped payments to this merchant",
            "revocation_of_all_authorizations": "the cardholder stopped all such payments",
            "stop_payment_order": "the cardholder stopped this payment",
            "transaction_not_allowed": "the issuer does not allow such payments",
            "service_not_allowed": "the card does not support this service",
            "not_permitted": "the payment is not permitted",
            "card_not_supported": "the card does not support this kind of purchase",
            "security_violation": "the issuer saw a breach of its security rules",
            "pin_try_exceeded": "the PIN was entered wrongly too often",
        },
    },
)
_NEEDS_CUSTOMER: Final = Rule(
    Action.NEEDS_CUSTOMER,
    {
        Source.VISA_RESPONSE: {"1A": "the issuer wants the cardholder to authenticate"},
        Source.DECLINE: {"authentication_required": "the issuer wants the cardholder to authenticate"},
        Source.STATUS: {"requires_action": "the payment waits for the cardholder"},
    },
)
_NEW_DETAILS: Final = Rule(
    Action.NEW_DETAILS,
    {
        Source.MASTERCARD_ADVICE: {
            "01": "the issuer has newer card details",
            "40": "a prepaid card that cannot be reloaded",
            "41": "a virtual card number for single use",
        },
        Source.ADVICE: {"confirm_card_data": "the card details are to be checked"},
        Source.DECLINE: {
            "expired_card": "the card has expired",
            "incorrect_number": "the card number is wrong",
            "invalid_number": "the card number is wrong",
            "incorrect_cvc": "the security code is wrong",
            "invalid_cvc": "the security code is wrong",
            "incorrect_expiry": "the expiry date is wrong",
            "invalid_expiry": "the expiry date is wrong",
            "invalid_expiry_month": "the expiry month is wrong",
            "invalid_expiry_year": "the expiry year is wrong",
            "incorrect_zip": "the postal code is wrong",
            "invalid_zip": "the postal code is wrong",
            "new_account_information_available": "the issuer has newer card details",
        },
    },
)
_OPERATOR: Final = Rule(
    Action.OPERATOR,
    {
        Source.MASTERCARD_ADVICE: {
            "04": "the token does not meet the network's requirements",
            "05": "the negotiated value was not approved",
            "22": "the merchant does not qualify for this product code",
            "42": "stopped by the sanctions scoring service",
        },
        Source.DECLINE: {
            "currency_not_supported": "the card does not support this currency",
            "invalid_amount": "the issuer does not accept this amount",
        },
    },
)
_RECONCILE: Final = Rule(
    Action.RECONCILE,
    {Source.DECLINE: {"duplicate_transaction": "the same payment was made a moment ago"}},
)
_FUNDS: Final = Rule(
    Action.RETRY,
    {
        Source.DECLINE: {
            "insufficient_funds": "the card has not enough funds",
            "card_velocity_exceeded": "the card's balance, credit limit or number of payments is exhausted",
            "withdrawal_count_limit_exceeded": "the card's number of payments is exhausted",
        }
    },
    _hours(24, 72, 7 * 24),
    Afterwards.LAST_DELAY,
)
_NO_REASON: Final = Rule(
    Action.RETRY,
    {
        Source.ADVICE: {"try_again_later": "the issuer allows a later try"},
        Source.DECLINE: {
            "do_not_honor": "the issuer declined and gives no reason",
            "generic_decline": "declined without a reason",
            "no_action_taken": "the issuer took no action and gives no reason",
            "try_again_later": "declined for now without a reason",
            "call_issuer": "the issuer wants to be called and gives no reason",
        },
    },
    _hours(24, 72),
)
_OUTAGE: Final = Rule(
    Action.RETRY,
    {
        Source.VISA_RESPONSE: {"91": "the issuer cannot be reached", "96": "a system failed"},
        Source.DECLINE: {
            "processing_error": "processing the card failed",
            "issuer_not_available": "the issuer cannot be reached",
            "reenter_transaction": "the issuer could not process it, for an unknown reason",
            "approve_with_id": "the payment could not be authorised now",
        },
    },
    _hours(1, 6, 24),
    Afterwards.LAST_DELAY,
)


def _mastercard_delay(code: str, hours: int, words: str) -> Rule:
    return Rule(Action.RETRY, {Source.MASTERCARD_ADVICE: {code: words}}, _hours(hours), Afterwards.LAST_DELAY)


RULES: Final[tuple[Rule, ...]] = (
    _NEVER,
    _NEEDS_CUSTOMER,
    _NEW_DETAILS,
    _mastercard_delay("24", 1, "retry after 1 hour"),
    _mastercard_delay("25", 24, "retry after 24 hours"),
    _mastercard_delay("26", 2 * 24, "retry after 2 days"),
    _mastercard_delay("27", 4 * 24, "retry after 4 days"),
    _mastercard_delay("28", 6 * 24, "retry after 6 days"),
    _mastercard_delay("29", 8 * 24, "retry after 8 days"),
    _mastercard_delay("30", 10 * 24, "retry after 10 days"),
    _mastercard_delay("02", 72, "cannot be approved now, retry after 72 hours"),
    _FUNDS,
    _NO_REASON,
    _OUTAGE,
    _RECONCILE,
    _OPERATOR,
)
"""The decline table, in its order on the page; no signal stands in two rows."""

_UNKNOWN: Final = Rule(Action.RETRY, {}, _hours(24))
_UNKNOWN_WORDS: Final = "the issuer declined for a reason that is not known here"
_SAYS_LITTLE: Final = (Source.ADVICE, "try_again_later")


def signals_of(rule: Rule) -> Iterator[Signal]:
    """Every signal of one row."""
    for source, codes in rule.signals.items():
        for code, words in codes.items():
            yield Signal(source, code, words, rule)


_BY_SIGNAL: Final[Mapping[tuple[Source, str], Signal]] = {
    (signal.source, signal.code): signal for rule in RULES for signal in signals_of(rule)
}


def classify(decline: Decline) -> Meaning:
    """The meaning of a decline: the strictest of its signals, or the union of its delays. Every decline has one."""
    known = [_BY_SIGNAL[key] for key in _keys(decline) if key in _BY_SIGNAL]
    telling = [signal for signal in known if (signal.source, signal.code) != _SAYS_LITTLE] or known
    reconcile = any(signal.rule.action is Action.RECONCILE for signal in telling)
    if not telling:
        return Meaning(Action.RETRY, _unknown_reason(decline), _UNKNOWN_WORDS, _UNKNOWN.delays, _UNKNOWN.afterwards)
    action = max(signal.rule.action for signal in telling)
    decisive = [signal for signal in telling if signal.rule.action is action]
    delays, afterwards = _longest(decisive)
    words = "; ".join(dict.fromkeys(signal.words for signal in decisive))
    return Meaning(action, "; ".join(map(str, decisive)), words, delays, afterwards, reconcile)


def next_step(meaning: Meaning, consecutive: int, now: datetime) -> Step:
    """What follows the ``consecutive``-th decline of a card in a row (from 1) that happened at ``now``.

    The first decline and every pause tell the holder. The throttle of the card is a matter of its own and may hold
    longer. Raises `ValueError` where ``consecutive`` is below 1.
    """
    if consecutive < 1:
        raise ValueError("the first decline in a row is number 1")
    if meaning.action is Action.RECONCILE:
        return Step(reconcile=True)
    if meaning.action is not Action.RETRY:
        return Step(
            pause=True,
            block=meaning.action is Action.NEVER,
            reconcile=meaning.reconcile,
            tell_holder=True,
            tell_operator=meaning.action is Action.OPERATOR,
        )
    if consecutive > len(meaning.delays) and meaning.afterwards is Afterwards.PAUSE:
        return Step(pause=True, tell_holder=True)
    delay = meaning.delays[min(consecutive, len(meaning.delays)) - 1]
    return Step(not_before=now + delay, tell_holder=consecutive == 1)


def _keys(decline: Decline) -> list[tuple[Source, str]]:
    """The signals that a decline may carry, in the order of `Source`, its error code read as a decline code."""
    brand = (decline.brand or "").lower()
    found = [
        (Source.MASTERCARD_ADVICE, _network(decline.network_advice_code) if brand in ("", "mastercard") else None),
        (Source.VISA_RESPONSE, _network(decline.network_decline_code) if brand in ("", "visa") else None),
        (Source.ADVICE, decline.advice_code),
        (Source.DECLINE, decline.decline_code),
        (Source.DECLINE, decline.code if decline.code != decline.decline_code else None),
        (Source.STATUS, decline.status),
    ]
    return [(source, code) for source, code in found if code]


def _network(code: str | None) -> str | None:
    return None if code is None else code.strip().upper().zfill(2)


def _longest(signals: list[Signal]) -> tuple[tuple[timedelta, ...], Afterwards]:
    """One schedule that every signal is content with: the longest delay each time, a pause as soon as one pauses."""
    rules = [signal.rule for signal in signals if signal.rule.delays]
    if not rules:
        return (), Afterwards.PAUSE
    pausing = [len(rule.delays) for rule in rules if rule.afterwards is Afterwards.PAUSE]
    length = min(pausing) if pausing else max(len(rule.delays) for rule in rules)
    delays = tuple(
        max(rule.delays[min(position, len(rule.delays) - 1)] for rule in rules) for position in range(length)
    )
    return delays, Afterwards.PAUSE if pausing else Afterwards.LAST_DELAY


def _unknown_reason(decline: Decline) -> str:
    said = ", ".join(f"{source} {code}" for source, code in _keys(decline))
    return f"no signal of the decline is known ({said or 'there is none'})"
