"""What a quantity costs, and which purchase covers a shortfall."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Malformed
from jobs.money import AMOUNT_MAX, Money
from jobs.packs import smallest_total
from jobs.price import Price, checkout_price, price, purchasable, purchase_for, recharge_quantity, split
from jobs.program import Program, example_programs, parse_program

EXAMPLES = {program.name: program for program in example_programs()}
MAIL, POINTS, SMS = EXAMPLES["mail"], EXAMPLES["points"], EXAMPLES["sms"]


def program_with(tiers: list[tuple[int, str]], packs: list[int], sells: str, tax: str) -> Program:
    return parse_program(
        {
            "name": "made",
            "title": "Made",
            "currency": "USD",
            "decimals": 0,
            "unit": {"singular": "one", "plural": "many"},
            "price": {"tiers": [{"from": first, "unit_price": unit_price} for first, unit_price in tiers]},
            "tax": {"name": "VAT", "rate": tax},
            "packs": packs,
            "sells": sells,
            "expiry": {"kind": "none"},
            "seller": {"name": "Example"},
        }
    )


@st.composite
def programs(draw: st.DrawFn) -> Program:
    starts = draw(st.lists(st.integers(2, 60), max_size=3, unique=True).map(sorted))
    prices = draw(st.lists(st.integers(1, 40), min_size=len(starts) + 1, max_size=len(starts) + 1))
    tiers = [(first, f"{cents / 100:.2f}") for first, cents in zip([1, *starts], prices, strict=True)]
    packs = draw(st.lists(st.integers(1, 15), min_size=1, max_size=3, unique=True).map(sorted))
    return program_with(
        tiers, packs, draw(st.sampled_from(["any", "packs"])), draw(st.sampled_from(["0", "10", "8.875"]))
    )


def test_mail_credit_costs_what_it_is_worth() -> None:
    assert price(MAIL, 1250) == Price(1250, Money(1250, "USD"), Money(0, "USD"), Money(1250, "USD"), Decimal(1))


def test_tax_is_rounded_once_half_up_on_the_net_total() -> None:
    offer = price(SMS, 10)  # 0.88 net; 10 % is 0.088
    assert (offer.net, offer.tax, offer.gross) == (Money(88, "AUD"), Money(9, "AUD"), Money(97, "AUD"))
    offer = price(SMS, 17)  # 1.496 net becomes 1.50; 10 % is 0.15
    assert (offer.net.minor, offer.tax.minor, offer.gross.minor) == (150, 15, 165)
    half = price(program_with([(1, "0.05")], [1], "any", "10"), 1)  # 10 % of 0.05 is half a cent
    assert (half.net.minor, half.tax.minor, half.gross.minor) == (5, 1, 6)


def test_the_whole_purchase_costs_the_price_of_its_tier() -> None:
    assert price(SMS, 999).net == Money(8791, "AUD")
    assert price(SMS, 1000).net == Money(8250, "AUD")
    assert price(SMS, 100_000).unit_price == Decimal("0.0594")


@pytest.mark.parametrize("quantity", [0, -1, AMOUNT_MAX + 1])
def test_a_quantity_out_of_bounds_has_no_price(quantity: int) -> None:
    with pytest.raises(Malformed, match="a quantity must be from 1"):
        price(MAIL, quantity)


@given(st.sampled_from([MAIL, POINTS, SMS]), st.integers(1, 10**12), st.integers(0, 10**6))
def test_within_a_tier_more_never_costs_less(program: Program, quantity: int, more: int) -> None:
    fewer, larger = price(program, quantity), price(program, quantity + more)
    assert fewer.net + fewer.tax == fewer.gross
    assert larger.unit_price <= fewer.unit_price
    if larger.unit_price == fewer.unit_price:
        assert fewer.net <= larger.net
        assert fewer.gross <= larger.gross


@given(st.sampled_from([MAIL, POINTS, SMS]), st.lists(st.integers(1, 10**6), min_size=1, max_size=12))
def test_lines_sum_exactly_to_the_charge(program: Program, quantities: list[int]) -> None:
    whole = price(program, sum(quantities))
    lines = split(whole, quantities)
    assert [line.quantity for line in lines] == quantities
    for part in ("net", "tax", "gross"):
        assert sum(getattr(line, part).minor for line in lines) == getattr(whole, part).minor
    assert all(line.net + line.tax == line.gross for line in lines)


def test_lines_must_make_the_charge() -> None:
    with pytest.raises(ValueError, match="lines of 3 do not make 4"):
        split(price(POINTS, 4), [1, 2])


@pytest.mark.parametrize(
    ("order", "by_card", "by_credit"), [(73, 200, 73), (199, 200, 199), (200, 200, 200), (201, 201, 201), (0, 200, 0)]
)
def test_paying_with_credit_waives_the_minimum_charge(order: int, by_card: int, by_credit: int) -> None:
    assert checkout_price(MAIL, Money(order, "USD"), by="card") == Money(by_card, "USD")
    assert checkout_price(MAIL, Money(order, "USD"), by="credit") == Money(by_credit, "USD")


def test_a_program_without_minimum_charges_the_order() -> None:
    assert checkout_price(POINTS, Money(73, "USD"), by="card") == Money(73, "USD")
    with pytest.raises(ValueError, match="not in the currency of mail"):
        checkout_price(MAIL, Money(73, "AUD"), by="card")


def test_mail_sells_exactly_the_remainder_down_to_what_a_card_can_pay() -> None:
    assert purchase_for(MAIL, 730).quantity == 730
    assert purchase_for(MAIL, 7).quantity == 50


def test_points_are_sold_in_packs() -> None:
    assert purchase_for(POINTS, 1).quantity == 500
    assert purchase_for(POINTS, 1501).quantity == 2000
    assert purchase_for(POINTS, 10**15 + 1).quantity == 10**15 + 500


def test_a_larger_quantity_that_is_cheaper_is_the_one_to_buy() -> None:
    assert purchase_for(SMS, 980).quantity == 1000
    assert purchase_for(SMS, 900).quantity == 900
    assert purchase_for(SMS, 4900).quantity == 5000


@pytest.mark.parametrize("shortfall", [0, -1, AMOUNT_MAX + 1])
def test_a_shortfall_out_of_bounds_is_refused(shortfall: int) -> None:
    with pytest.raises(Malformed, match="a shortfall must be from 1"):
        purchase_for(POINTS, shortfall)


def test_a_shortfall_that_nothing_on_sale_can_cover_is_refused() -> None:
    with pytest.raises(Malformed, match="no purchase of points can cover"):
        purchase_for(POINTS, AMOUNT_MAX)


@given(programs(), st.integers(1, 80))
def test_the_purchase_is_the_cheapest_of_all_that_cover_the_shortfall(program: Program, shortfall: int) -> None:
    horizon = 200
    totals = _totals(program, horizon)
    cheapest = min((price(program, total).gross.minor, total) for total in totals if total >= shortfall)
    found = purchase_for(program, shortfall)
    assert (found.gross.minor, found.quantity) == cheapest


def _totals(program: Program, horizon: int) -> set[int]:
    """Every quantity on sale up to the horizon, by trying all of them."""
    if program.sells == "any":
        return set(range(program.smallest_purchase, horizon))
    totals = {0}
    for total in range(1, horizon):
        if any(total - pack in totals for pack in program.packs):
            totals.add(total)
    return totals - {0}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True), st.integers(-5, 300))
def test_the_smallest_total_of_packs_is_found(packs: list[int], at_least: int) -> None:
    totals = {0}
    for total in range(1, 2000):
        if any(total - pack in totals for pack in packs):
            totals.add(total)
    assert smallest_total(tuple(packs), at_least) == min(total for total in totals if total >= max(at_least, 1))


def test_a_recharge_is_the_smallest_number_of_packs_that_reaches_the_trigger() -> None:
    def bought(projected: int) -> int:
        return recharge_quantity(POINTS, projected=projected, recharge_below=500, amount=1000)

    assert [bought(projected) for projected in (501, 500, 499, 0, -500, -501, -2400)] == [
        0,
        0,
        1000,
        1000,
        1000,
        2000,
        3000,
    ]


def test_a_recharge_to_a_target_buys_what_is_on_sale() -> None:
    assert recharge_quantity(MAIL, projected=120, recharge_below=500, target=2000) == 1880
    assert recharge_quantity(POINTS, projected=120, recharge_below=500, target=2000) == 2000
    assert recharge_quantity(POINTS, projected=500, recharge_below=500, target=2000) == 0
    assert recharge_quantity(MAIL, projected=0, recharge_below=500, target=100) == 500


@pytest.mark.parametrize("modes", [{}, {"amount": 500, "target": 500}])
def test_a_recharge_has_one_mode(modes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="either an amount or a target"):
        recharge_quantity(POINTS, projected=0, recharge_below=500, **modes)


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**9), st.sampled_from(POINTS.recharge_amounts))
def test_a_recharge_reaches_the_trigger_with_no_pack_to_spare(projected: int, below: int, amount: int) -> None:
    bought = recharge_quantity(POINTS, projected=projected, recharge_below=below, amount=amount)
    if projected >= below:
        assert bought == 0
    else:
        assert bought % amount == 0
        assert projected + bought >= below > projected + bought - amount


def test_no_less_than_the_smallest_purchase_is_sold() -> None:
    assert purchasable(SMS, 1) == 10
    assert purchasable(SMS, 11) == 11
