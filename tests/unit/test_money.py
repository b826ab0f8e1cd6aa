"""Amounts in, amounts out, and the one rounding between them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Malformed
from jobs.money import (
    AMOUNT_MAX,
    EXPONENTS,
    Money,
    allocate,
    cost,
    exponent,
    format_credits,
    format_money,
    parse_amount,
    parse_decimal,
    parse_money,
    percentage,
    round_half_up,
)

monies = st.builds(Money, st.integers(0, AMOUNT_MAX), st.sampled_from(sorted(EXPONENTS)))


@pytest.mark.parametrize(
    ("currency", "places"),
    [
        ("USD", 2),
        ("AUD", 2),
        ("JPY", 0),
        ("KWD", 3),
        ("LBP", 2),
        ("RSD", 2),
        ("IQD", 3),
        ("HUF", 2),
        ("VND", 0),
        ("ISK", 0),
    ],
)
def test_exponents_are_those_of_iso_4217(currency: str, places: int) -> None:
    assert exponent(currency) == places


@pytest.mark.parametrize("code", ["usd", "XXX", "DEM", "", "DOLLAR", "XAU"])
def test_a_code_that_is_no_currency_in_use_is_refused(code: str) -> None:
    with pytest.raises(Malformed, match="ISO 4217"):
        Money(1, code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.50 USD", Money(1250, "USD")),
        ("12.5 USD", Money(1250, "USD")),
        ("12 USD", Money(1200, "USD")),
        ("0.01 USD", Money(1, "USD")),
        ("500 JPY", Money(500, "JPY")),
        ("1.234 KWD", Money(1234, "KWD")),
        ("0 USD", Money(0, "USD")),
        ("92233720368547758.07 USD", Money(AMOUNT_MAX, "USD")),
    ],
)
def test_money_is_read_exactly(text: str, expected: Money) -> None:
    assert parse_money(text) == expected


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("12.505 USD", "3 decimals, but USD has 2"),
        ("1.5 JPY", "1 decimals, but JPY has 0"),
        ("-1 USD", "not an amount of money"),
        ("1,000 USD", "not an amount of money"),
        ("1e3 USD", "not an amount of money"),
        ("", "not an amount of money"),
        (".5 USD", "not an amount of money"),
        ("١٢ USD", "not an amount of money"),
        ("12 usd", "not an amount of money"),
        ("12.50", "names no currency"),
        ("12.50 ZZZ", "ISO 4217"),
        ("92233720368547758.08 USD", "more than can be kept"),
        ("9" * 5000 + " USD", "more than can be kept"),
    ],
)
def test_what_is_no_money_is_refused_with_its_reason(text: str, because: str) -> None:
    with pytest.raises(Malformed, match=because):
        parse_money(text)


def test_the_currency_that_is_meant_is_taken_and_another_is_refused() -> None:
    assert parse_money("12.50", "USD") == Money(1250, "USD")
    assert parse_money("12.50 USD", "USD") == Money(1250, "USD")
    with pytest.raises(Malformed, match="is in EUR, but USD is asked for"):
        parse_money("12.50 EUR", "USD")


@given(monies)
def test_money_survives_text_and_back(money: Money) -> None:
    assert parse_money(str(money)) == money


@given(monies)
def test_money_for_people_shows_every_digit(money: Money) -> None:
    shown = "".join(character for character in format_money(money) if character.isdigit())
    assert int(shown) == money.minor


@pytest.mark.parametrize(
    ("money", "shown"),
    [
        (Money(1250, "USD"), "$12.50"),
        (Money(100_000, "AUD"), "A$1,000.00"),
        (Money(-1250, "USD"), "-$12.50"),
        (Money(500, "JPY"), "¥500"),
        (Money(1250, "LBP"), "LBP\u00a012.50"),
    ],
)
def test_money_for_people(money: Money, shown: str) -> None:
    assert format_money(money) == shown


def test_money_of_two_currencies_does_not_mix() -> None:
    with pytest.raises(ValueError, match="different currencies"):
        Money(1, "USD") + Money(1, "AUD")
    with pytest.raises(ValueError, match="different currencies"):
        max(Money(1, "USD"), Money(1, "AUD"))


def test_money_beyond_64_bits_is_refused() -> None:
    with pytest.raises(Malformed, match="more than can be kept"):
        Money(AMOUNT_MAX, "USD") + Money(1, "USD")


@pytest.mark.parametrize(("text", "amount"), [("1", 1), ("12", 12), ("007", 7), (str(AMOUNT_MAX), AMOUNT_MAX)])
def test_an_amount_is_a_whole_number(text: str, amount: int) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("12.5", "is not a whole number: amounts are integers in the program's smallest unit"),
        ("1e3", "is not a whole number"),
        ("1,000", "is not a whole number"),
        (" 5", "is not a whole number"),
        ("5\n", "is not a whole number"),
        ("+5", "is not a whole number"),
        ("five", "is not a whole number"),
        ("-5", "must be at least 1"),
        ("0", "must be at least 1"),
        ("000", "must be at least 1"),
        ("", "is empty"),
        ("١٢", "must be written in the digits 0 to 9"),
        ("²", "must be written in the digits 0 to 9"),
        (str(AMOUNT_MAX + 1), "more than the largest amount"),
        (str(10**30), "more than the largest amount"),
        ("9" * 5000, "more than the largest amount"),
    ],
)
def test_what_is_no_amount_is_refused_with_its_reason(text: str, because: str) -> None:
    with pytest.raises(Malformed, match=because) as refusal:
        parse_amount(text)
    assert len(str(refusal.value)) < 200


@given(st.integers(1, AMOUNT_MAX))
def test_every_amount_survives_text(amount: int) -> None:
    assert parse_amount(str(amount)) == amount


@given(st.text(max_size=30))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    try:
        amount = parse_amount(text)
    except Malformed:
        return
    assert 1 <= amount <= AMOUNT_MAX
    assert str(amount) == text.lstrip("0")


@pytest.mark.parametrize(
    ("amount", "decimals", "shown"),
    [
        (1, 0, "1 point"),
        (0, 0, "0 points"),
        (1234567, 0, "1,234,567 points"),
        (100, 2, "1.00 point"),
        (150, 2, "1.50 points"),
        (-5, 0, "-5 points"),
        (AMOUNT_MAX, 2, "92,233,720,368,547,758.07 points"),
    ],
)
def test_credits_for_people(amount: int, decimals: int, shown: str) -> None:
    assert format_credits(amount, decimals=decimals, singular="point", plural="points") == shown


@pytest.mark.parametrize("text", ["", "1.", ".5", "-1", "1e3", "NaN", "1" * 13, "٣"])
def test_a_rate_is_a_plain_decimal(text: str) -> None:
    with pytest.raises(Malformed, match="is not a decimal number"):
        parse_decimal(text)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [("0.5", 1), ("0.4999", 0), ("1.5", 2), ("2.5", 3), ("2.4", 2), ("-0.5", -1), ("-2.5", -3), ("7", 7)],
)
def test_halves_go_up(value: str, rounded: int) -> None:
    assert round_half_up(Fraction(value)) == rounded


def test_a_cost_is_rounded_once_on_the_total() -> None:
    # 3 x 0.0825 = 0.2475 AUD; rounding each credit first would give 0.24.
    assert cost(3, decimals=0, unit_price=Decimal("0.0825"), currency="AUD") == Money(25, "AUD")
    assert cost(1250, decimals=2, unit_price=Decimal(1), currency="USD") == Money(1250, "USD")
    assert cost(3, decimals=0, unit_price=Decimal("0.5"), currency="JPY") == Money(2, "JPY")
    assert percentage(Money(25, "AUD"), Decimal(10)) == Money(3, "AUD")
    assert percentage(Money(24, "AUD"), Decimal("8.875")) == Money(2, "AUD")


weights = st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any)


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX), weights)
def test_shares_sum_to_the_total_and_are_within_one_of_their_quota(total: int, parts: list[int]) -> None:
    shares = allocate(total, parts)
    assert sum(shares) == total
    for share, part in zip(shares, parts, strict=True):
        assert abs(share - Fraction(total * part, sum(parts))) < 1


@given(st.integers(0, 10**9), weights)
def test_a_larger_weight_never_gets_a_smaller_share(total: int, parts: list[int]) -> None:
    shares = allocate(total, sorted(parts, reverse=True))
    assert shares == sorted(shares, reverse=True)


def test_among_equal_remainders_the_first_get_what_is_left() -> None:
    assert allocate(5, [1, 1, 1]) == [2, 2, 1]
    assert allocate(-5, [1, 1, 1]) == [-2, -2, -1]
    assert allocate(100, [1, 0, 2]) == [33, 0, 67]


@pytest.mark.parametrize("parts", [[], [0, 0], [1, -1]])
def test_weights_must_make_sense(parts: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        allocate(10, parts)
