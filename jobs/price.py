"""What a quantity of a program's credit costs, and which quantity to buy. Pure; quantities in the smallest unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from jobs.errors import Malformed
from jobs.money import AMOUNT_MAX, Money, allocate, cost, percentage
from jobs.packs import smallest_total
from jobs.program import Program


@dataclass(frozen=True, slots=True)
class Price:
    """What ``quantity`` smallest units cost: ``gross`` = ``net`` + ``tax``.

    ``unit_price`` is what one whole credit costs before tax, in major units of the currency.
    """

    quantity: int
    net: Money
    tax: Money
    gross: Money
    unit_price: Decimal


def price(program: Program, quantity: int) -> Price:
    """The price of ``quantity`` smallest units bought at once.

    Rounded in this order, each once, half up: the net total to a minor unit, then the tax on that net total, as the
    invoice shows both and anyone can compute the one from the other. Never per unit or per line. Raises `Malformed`
    where ``quantity`` is below 1 or too large for money of 64 bits.
    """
    if not 1 <= quantity <= AMOUNT_MAX:
        raise Malformed(f"a quantity must be from 1 to {AMOUNT_MAX}, not {quantity}")
    unit_price = program.price.unit_price_of(quantity)
    net = cost(quantity, decimals=program.decimals, unit_price=unit_price, currency=program.currency)
    rate = Decimal(0) if program.tax is None else Decimal(program.tax.rate)
    tax = percentage(net, rate)
    return Price(quantity, net, tax, net + tax, unit_price)


def split(whole: Price, quantities: Sequence[int]) -> list[Price]:
    """The share of each line of one charge. ``quantities`` sum to the quantity of ``whole``.

    Net, tax and gross each sum exactly to those of ``whole``, and gross is net plus tax in every line.
    Raises `ValueError` where the quantities sum to something else or one is below zero.
    """
    if sum(quantities) != whole.quantity:
        raise ValueError(f"lines of {sum(quantities)} do not make {whole.quantity}")
    currency = whole.gross.currency
    nets = [Money(minor, currency) for minor in allocate(whole.net.minor, quantities)]
    taxes = [Money(minor, currency) for minor in allocate(whole.tax.minor, quantities)]
    return [
        Price(quantity, net, tax, net + tax, whole.unit_price)
        for quantity, net, tax in zip(quantities, nets, taxes, strict=True)
    ]


def checkout_price(program: Program, order: Money, by: Literal["card", "credit"]) -> Money:
    """What an order costs at checkout: by card at least the program's minimum charge, by credit the order itself.

    Raises `ValueError` where the order is not in the program's currency.
    """
    if order.currency != program.currency:
        raise ValueError(f"{order} is not in the currency of {program.name}, {program.currency}")
    minimum = program.minimum_charge_money()
    return order if by == "credit" or minimum is None else max(order, minimum)


def purchase_for(program: Program, shortfall: int) -> Price:
    """The cheapest purchase that covers ``shortfall``; of equally cheap ones the smallest.

    Exact: within a price tier the smallest quantity is the cheapest, so one candidate per tier is enough.
    Raises `Malformed` where ``shortfall`` is below 1 or nothing on sale can cover it.
    """
    if not 1 <= shortfall <= AMOUNT_MAX:
        raise Malformed(f"a shortfall must be from 1 to {AMOUNT_MAX}, not {shortfall}")
    starts = {max(shortfall, first) for first, _ in program.price.steps()}
    candidates = {purchasable(program, start) for start in starts}
    offers = [price(program, quantity) for quantity in candidates if quantity <= AMOUNT_MAX]
    if not offers:
        raise Malformed(f"no purchase of {program.name} can cover {shortfall}")
    return min(offers, key=lambda offer: (offer.gross.minor, offer.quantity))


def purchasable(program: Program, at_least: int) -> int:
    """The smallest quantity of ``at_least`` or above that the program sells at once."""
    if program.sells == "any":
        return max(at_least, program.smallest_purchase)
    return smallest_total(program.packs, max(at_least, program.smallest_purchase))


def recharge_quantity(
    program: Program, *, projected: int, recharge_below: int, amount: int | None = None, target: int | None = None
) -> int:
    """How much one recharge buys, given the ``projected`` balance; 0 where it is not below the trigger.

    With ``amount``: the smallest number of packs of it that brings ``projected`` to ``recharge_below`` or above.
    With ``target``: the smallest quantity on sale that brings it to ``target`` or above.
    Raises `ValueError` unless exactly one of both is given.
    """
    if (amount is None) == (target is None):
        raise ValueError("either an amount or a target")
    if projected >= recharge_below:
        return 0
    if amount is not None:
        return -(-(recharge_below - projected) // amount) * amount
    # A target below the trigger would leave the account below it.
    return purchasable(program, max(target or 0, recharge_below) - projected)
