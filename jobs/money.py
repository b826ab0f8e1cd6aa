"""Amounts: credits in a program's smallest unit, money in minor units with its ISO 4217 code. Nothing here is a float.

This is the one place that turns text into amounts, amounts into text, and credits into money. Where a result is no
whole number of minor units it is rounded once, half up, and the caller says nothing about rounding.

Exponents come from Babel, corrected to ISO 4217: Babel carries Unicode CLDR, which says how many decimals people of a
country write, and for a dozen currencies (the Lebanese pound, the Serbian dinar) that is fewer than the standard and
a processor use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import floor
from types import MappingProxyType
from typing import Final

from babel.core import get_global
from babel.numbers import format_currency, format_decimal, get_currency_precision, get_currency_symbol

from jobs.errors import Malformed

AMOUNT_MAX: Final = 2**63 - 1
"""The largest amount of credits or minor units: what a Postgres bigint holds."""

# ISO 4217 table A.1, column "minor unit", where CLDR's digits are fewer.
_ISO_4217_OVER_CLDR: Final = dict.fromkeys(
    ("AFN", "ALL", "IRR", "KPW", "LAK", "LBP", "MGA", "MMK", "RSD", "SOS", "SYP", "YER"), 2
) | {"IQD": 3}
_AMOUNT = re.compile(r"[0-9]+", re.ASCII)
_WHOLE_SHAPE = re.compile(r"-?[0-9]+", re.ASCII)
_MONEY = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?: (?P<currency>[A-Z]{3}))?", re.ASCII)
_RATE = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)
_SHOWN_CHARACTERS_MAX: Final = 40


def _tender_exponents() -> dict[str, int]:
    used: Mapping[str, Sequence[tuple[str, object, object, bool]]] = get_global("territory_currencies")
    today = {code for uses in used.values() for code, _, end, tender in uses if tender and end is None}
    return {code: _ISO_4217_OVER_CLDR.get(code, get_currency_precision(code)) for code in sorted(today)}


EXPONENTS: Final[Mapping[str, int]] = MappingProxyType(_tender_exponents())
"""ISO 4217 code to the decimals of its minor unit, for every currency that is legal tender somewhere today."""


def exponent(currency: str) -> int:
    """How many decimals the minor unit of ``currency`` has: 2 for USD, 0 for JPY, 3 for KWD.

    Raises `Malformed` where ``currency`` is no ISO 4217 code of a currency in use.
    """
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise Malformed(f"{_shown(currency)} is not the ISO 4217 code of a currency in use, such as USD") from None


@dataclass(frozen=True, slots=True)
class Money:
    """``minor`` units of ``currency``: ``Money(1250, "USD")`` is 12.50 USD. May be negative (a credit note)."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        if abs(self.minor) > AMOUNT_MAX:
            raise Malformed(f"{self.currency} money of {len(str(abs(self.minor)))} digits is more than can be kept")

    def __str__(self) -> str:
        return f"{self.decimal():f} {self.currency}"

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._like(other).minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._like(other).minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._like(other).minor

    def __le__(self, other: Money) -> bool:
        return self.minor <= self._like(other).minor

    def decimal(self) -> Decimal:
        """The amount in major units, exactly, with all the decimals of its currency."""
        return Decimal(self.minor).scaleb(-exponent(self.currency))

    def _like(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise ValueError(f"{self} and {other} are different currencies")
        return other


def parse_money(text: str, currency: str | None = None) -> Money:
    """``"12.50"`` or ``"12.50 USD"`` in major units, exactly; the inverse of ``str(money)``.

    ``currency`` is the one that is meant where the text names none; a text that names another one is refused.
    Raises `Malformed` on anything else: signs, grouping, too many decimals, no currency at all.
    """
    match = _MONEY.fullmatch(text)
    if match is None:
        raise Malformed(f"{_shown(text)} is not an amount of money: write it like 12.50 or 12.50 {currency or 'USD'}")
    named = match["currency"] or currency
    if named is None:
        raise Malformed(f"{_shown(text)} names no currency: write it like {match['number'][:20]} USD")
    if currency is not None and named != currency:
        raise Malformed(f"{_shown(text)} is in {named}, but {currency} is asked for")
    return Money(_minor_of(match["number"], named), named)


def _minor_of(number: str, currency: str) -> int:
    whole, _, decimals = number.partition(".")
    places = exponent(currency)
    if len(decimals) > places:
        raise Malformed(f"{_shown(number)} has {len(decimals)} decimals, but {currency} has {places}")
    digits = (whole + decimals.ljust(places, "0")).lstrip("0") or "0"
    if _above_maximum(digits):
        raise Malformed(f"{_shown(number)} {currency} is more than can be kept")
    return int(digits)


def format_money(money: Money) -> str:
    """For people, in English: ``$12.50``, ``A$1,000.00``, ``¥500``, ``KWD 1.250`` (the space does not break)."""
    gap = "\u00a0" if get_currency_symbol(money.currency, locale="en")[-1].isalpha() else ""
    pattern = f"¤{gap}{_number_pattern(exponent(money.currency))}"
    return format_currency(money.decimal(), money.currency, pattern, locale="en", currency_digits=False)


def parse_amount(text: str) -> int:
    """An amount of credits: a whole number in the program's smallest unit, from 1 to `AMOUNT_MAX`, in digits 0 to 9.

    Raises `Malformed` with a sentence that says which of these it is not.
    """
    if not text:
        raise Malformed(f"the amount is empty: it must be a whole number from 1 to {AMOUNT_MAX}")
    if not _AMOUNT.fullmatch(text):
        raise Malformed(f"the amount {_shown(text)} {_why_no_amount(text)}")
    digits = text.lstrip("0")
    if not digits:
        raise Malformed(f"the amount {_shown(text)} must be at least 1")
    if _above_maximum(digits):
        raise Malformed(f"the amount {_shown(text)} is more than the largest amount, {AMOUNT_MAX}")
    return int(digits)


def _above_maximum(digits: str) -> bool:
    # The length first: Python refuses to convert thousands of digits, and need not.
    return len(digits) > len(str(AMOUNT_MAX)) or int(digits) > AMOUNT_MAX


def _why_no_amount(text: str) -> str:
    if _WHOLE_SHAPE.fullmatch(text):
        return "must be at least 1"
    if any(character.isdigit() and not character.isascii() for character in text):
        return "must be written in the digits 0 to 9"
    return (
        "is not a whole number: amounts are integers in the program's smallest unit, without sign, spaces or grouping"
    )


def parse_decimal(text: str) -> Decimal:
    """A price or a rate, exactly: ``"0.0825"``; up to 12 digits on each side. Raises `Malformed`."""
    if not _RATE.fullmatch(text):
        raise Malformed(f"{_shown(text)} is not a decimal number such as 0.0825, with at most 12 digits on each side")
    return Decimal(text)


def format_credits(amount: int, *, decimals: int, singular: str, plural: str) -> str:
    """Credits for people: ``format_credits(123450, decimals=2, ...)`` is ``1,234.50 dollars``."""
    return f"{format_number(amount, decimals)} {singular if abs(amount) == 10**decimals else plural}"


def format_number(amount: int, decimals: int) -> str:
    """Credits as a number for people, for a column whose heading says the unit: ``1,234.50``, ``-1,234.50``."""
    value = Decimal(amount).scaleb(-decimals)
    return format_decimal(value, _number_pattern(decimals), locale="en", decimal_quantization=False)


def _number_pattern(places: int) -> str:
    return "#,##0" + ("." + "0" * places if places else "")


def cost(quantity: int, *, decimals: int, unit_price: Decimal, currency: str) -> Money:
    """What ``quantity`` smallest units cost, where one whole credit (10 ** ``decimals`` of them) costs ``unit_price``
    major units of ``currency``: rounded once, half up, to a minor unit.
    """
    major = Fraction(unit_price) * quantity / 10**decimals
    return Money(round_half_up(major * 10 ** exponent(currency)), currency)


def percentage(base: Money, rate: Decimal) -> Money:
    """``rate`` percent of ``base``, rounded once, half up, to a minor unit."""
    return Money(round_half_up(Fraction(rate) * base.minor / 100), base.currency)


def round_half_up(value: Fraction) -> int:
    """The nearest whole number; halves go away from zero, so that a credit note mirrors its invoice to the unit."""
    nearest = floor(abs(value) + Fraction(1, 2))
    return nearest if value >= 0 else -nearest


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """Split ``total`` over ``weights`` in proportion, in whole units whose sum is exactly ``total``.

    Largest remainder (Hamilton): each share is its quota rounded down or up; what is left goes to the largest
    remainders, and among equal ones to the first, so that the same split is computed again for ever. Raises
    `ValueError` where there is no weight above zero or one below.
    """
    if not weights or min(weights) < 0 or sum(weights) == 0:
        raise ValueError("weights must be zero or more, with one above zero")
    size, whole = abs(total), sum(weights)
    shares = [size * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: (-(size * weights[index] % whole), index))
    for index in by_remainder[: size - sum(shares)]:
        shares[index] += 1
    return shares if total >= 0 else [-share for share in shares]


def _shown(text: str) -> str:
    short = text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}…"
    return repr(short)
