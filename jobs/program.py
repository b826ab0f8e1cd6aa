"""A program: one kind of credit on sale, as an operator writes it in a TOML file and as the database keeps it in JSON.

Both are read by the same strict model, so that a program which was stored is a program which could have been loaded.
Whatever is wrong is said at once, each fault with its place in the file. Amounts of credits are integers in the
program's smallest unit; prices, rates and money are text, because a TOML number with a point is a float.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from typing import Annotated, Final, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from jobs.errors import InvalidProgram, Malformed
from jobs.faults import faults_of
from jobs.money import AMOUNT_MAX, Money, cost, exponent, format_credits, parse_decimal, parse_money
from jobs.packs import WHEEL_SIZE_MAX, wheel_size

PolicyField = Literal["alert_below", "recharge_below", "amount", "target", "cap_month", "cap_day", "enabled"]
"""What a policy says about an account, by the names of the command line."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_PROGRAMS_KEPT: Final = 64


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("must be 1 to 32 of a-z, 0-9 and _, and begin with a letter")
    return text


def _said(check: Callable[[str], object]) -> Callable[[str], str]:
    """Turn a parser of ours into a validator that keeps the text, and its refusal into a fault of the file."""

    def validate(text: str) -> str:
        try:
            check(text)
        except Malformed as refusal:
            raise ValueError(str(refusal)) from None
        return text

    return validate


def _time_zone(text: str) -> str:
    if text not in available_timezones():
        raise ValueError(f"{text!r} is not a time zone of the IANA database, such as Europe/Vienna or UTC")
    return text


def _unit_price(text: str) -> str:
    if parse_decimal(text) == 0:
        raise Malformed("must be above zero")
    return text


def _percent(text: str) -> str:
    if parse_decimal(text) > 100:
        raise Malformed("must be a percentage from 0 to 100")
    return text


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Currency = Annotated[str, AfterValidator(_said(exponent))]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
UnitPrice = Annotated[str, AfterValidator(_said(_unit_price))]
Percent = Annotated[str, AfterValidator(_said(_percent))]
Credits = Annotated[int, Field(ge=1, le=AMOUNT_MAX)]
Days = Annotated[int, Field(ge=1, le=36_500)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Unit(_Section):
    """What one whole credit is called."""

    singular: Text
    plural: Text


class Expiry(_Section):
    """When credit dies: ``fixed`` days after purchase, after so many days of ``inactivity``, or never (``none``)."""

    kind: Literal["none", "fixed", "inactivity"]
    days: Days | None = Field(default=None, validate_default=True)

    @field_validator("days")
    @classmethod
    def _fits_kind(cls, days: int | None, info: ValidationInfo) -> int | None:
        kind = info.data.get("kind")
        if kind in ("fixed", "inactivity") and days is None:
            raise ValueError(f"must be given where kind is {kind!r}")
        if kind == "none" and days is not None:
            raise ValueError("must be left out where kind is 'none'")
        return days


class PriceTier(_Section):
    """From this many credits in one purchase on, every credit of the purchase costs this."""

    from_credits: Credits = Field(alias="from")
    unit_price: UnitPrice


class PriceList(_Section):
    """Net prices: one ``unit_price`` for every quantity, or ``tiers`` by the quantity of a purchase.

    A unit price is for one whole credit, in major units of the currency. Tiers are by volume: the whole purchase
    costs the price of the tier that its quantity reaches, so a larger purchase can cost less than a smaller one.
    """

    unit_price: UnitPrice | None = None
    tiers: tuple[PriceTier, ...] = ()

    @field_validator("tiers")
    @classmethod
    def _ascending(cls, tiers: tuple[PriceTier, ...]) -> tuple[PriceTier, ...]:
        if tiers and tiers[0].from_credits != 1:
            raise ValueError("must begin with a tier that says from = 1")
        if any(later.from_credits <= earlier.from_credits for earlier, later in pairwise(tiers)):
            raise ValueError("must be in ascending order of from, each once")
        return tiers

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.unit_price is None) == (not self.tiers):
            raise ValueError("must have either unit_price or tiers")
        return self

    def steps(self) -> tuple[tuple[int, Decimal], ...]:
        """(from how many credits, unit price), ascending, the first from 1."""
        if self.unit_price is not None:
            return ((1, Decimal(self.unit_price)),)
        return tuple((tier.from_credits, Decimal(tier.unit_price)) for tier in self.tiers)

    def unit_price_of(self, quantity: int) -> Decimal:
        """What one whole credit costs in a purchase of ``quantity`` (1 or more), in major units."""
        return [unit_price for first, unit_price in self.steps() if first <= max(quantity, 1)][-1]


class Tax(_Section):
    """A tax on top of the net price: ``rate`` is a percentage, as exact text."""

    name: Text
    rate: Percent


class Seller(_Section):
    """Who sells, as every invoice of the program says it."""

    name: Text
    address: tuple[Text, ...] = ()
    tax_id: Text | None = None
    note: Annotated[str, Field(max_length=500)] = ""


class Organisations(_Section):
    """How an organisation holds this credit unless it asks for the other way."""

    balance: Literal["shared", "individual"] = "shared"
    system_account: bool = False


class PolicyDefaults(_Section):
    """What applies where the level below says nothing. Recharge is never on by default: switching it on is an act."""

    alert_below: Credits | None = None
    recharge_below: Credits | None = None
    amount: Credits | None = None
    target: Credits | None = None
    cap_month: str | None = None
    cap_day: str | None = None

    @field_validator("target")
    @classmethod
    def _one_mode(cls, target: int | None, info: ValidationInfo) -> int | None:
        if target is not None and info.data.get("amount") is not None:
            raise ValueError(
                "must be left out where amount is given: a recharge buys an amount or fills up to a target"
            )
        return target


class Tier(PolicyDefaults):
    """A kind of account: defaults, fields that its holder may not change, and whose card pays."""

    bills: Literal["own", "manager"] = "own"
    locked: tuple[PolicyField, ...] = ()


class Program(_Section):
    """One kind of credit on sale. Fields are in the order in which checks build on each other."""

    name: Name
    title: Text
    unit: Unit
    currency: Currency
    decimals: Annotated[int, Field(ge=0, le=6)]
    time_zone: TimeZone = "UTC"
    expiry: Expiry
    price: PriceList
    tax: Tax | None = None
    minimum_charge: str | None = None
    sells: Literal["any", "packs"] = "packs"
    smallest_purchase: Credits = Field(default=1, validate_default=True)
    packs: Annotated[tuple[Credits, ...], Field(min_length=1, max_length=50)]
    recharge_amounts: Annotated[tuple[Credits, ...], Field(max_length=50)] = Field(default=(), validate_default=True)
    wait_limit_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    seller: Seller
    organisations: Organisations = Organisations()
    policy: PolicyDefaults = PolicyDefaults()
    tiers: Annotated[dict[Name, Tier], Field(max_length=20)] = Field(default_factory=dict)

    @field_validator("minimum_charge")
    @classmethod
    def _in_currency(cls, text: str | None, info: ValidationInfo) -> str | None:
        return _checked_money(text, info)

    @field_validator("smallest_purchase")
    @classmethod
    def _worth_a_minor_unit(cls, quantity: int, info: ValidationInfo) -> int:
        return _checked_price(quantity, info)

    @field_validator("packs", "recharge_amounts")
    @classmethod
    def _offered(cls, amounts: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in pairwise(amounts)):
            raise ValueError("must be in ascending order, each once")
        for amount in amounts:
            _checked_price(amount, info)
        return amounts

    @field_validator("packs")
    @classmethod
    def _searchable(cls, packs: tuple[int, ...]) -> tuple[int, ...]:
        if wheel_size(packs) > WHEEL_SIZE_MAX:
            raise ValueError(f"must share a divisor: the largest pack may be {WHEEL_SIZE_MAX} times it at most")
        return packs

    @field_validator("recharge_amounts")
    @classmethod
    def _packs_by_default(cls, amounts: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        return amounts or info.data.get("packs", ())

    @field_validator("policy")
    @classmethod
    def _policy_fits(cls, policy: PolicyDefaults, info: ValidationInfo) -> PolicyDefaults:
        _check_defaults(policy, info)
        return policy

    @field_validator("tiers")
    @classmethod
    def _tiers_fit(cls, tiers: dict[str, Tier], info: ValidationInfo) -> dict[str, Tier]:
        for name, tier in tiers.items():
            _check_defaults(tier, info, f"{name}: ")
        return tiers

    def minimum_charge_money(self) -> Money | None:
        """The least that a card is charged for an order at checkout, or None."""
        return None if self.minimum_charge is None else parse_money(self.minimum_charge, self.currency)

    def show(self, quantity: int) -> str:
        """Credits for people: ``1,000 points``."""
        return format_credits(quantity, decimals=self.decimals, singular=self.unit.singular, plural=self.unit.plural)

    def to_json(self) -> str:
        """The stored form; the same program always gives the same text."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True)


def _checked_money(text: str | None, info: ValidationInfo) -> str | None:
    currency = info.data.get("currency")
    if text is not None and currency is not None:
        _said(partial(parse_money, currency=currency))(text)
    return text


def _checked_price(quantity: int, info: ValidationInfo) -> int:
    """Refuse a quantity that would be sold for nothing. A faulty price is a fault already, and none of this one."""
    if not {"price", "currency", "decimals"} <= info.data.keys():
        return quantity
    price_list: PriceList = info.data["price"]
    decimals, currency = info.data["decimals"], info.data["currency"]
    net = cost(quantity, decimals=decimals, unit_price=price_list.unit_price_of(quantity), currency=currency)
    if net.minor < 1:
        raise ValueError(f"must cost something, but {quantity} credits cost {net}")
    return quantity


def _check_defaults(defaults: PolicyDefaults, info: ValidationInfo, where: str = "") -> None:
    amounts = info.data.get("recharge_amounts")
    if amounts and defaults.amount is not None and defaults.amount not in amounts:
        raise ValueError(f"{where}amount must be one of recharge_amounts, not {defaults.amount}")
    if defaults.target is not None and defaults.target < (defaults.recharge_below or 0):
        raise ValueError(f"{where}target must be recharge_below ({defaults.recharge_below}) or above")
    for name in ("cap_month", "cap_day"):
        try:
            _checked_money(getattr(defaults, name), info)
        except ValueError as fault:
            raise ValueError(f"{where}{name}: {fault}") from None


def lot_expiry(program: Program, now: datetime) -> datetime | None:
    """When credit that is granted at ``now`` dies, or None where it never does. ``now`` carries its time zone.

    For ``inactivity`` it is the same sum, asked again at each spend or purchase: ``now`` is then the last activity.
    """
    if now.tzinfo is None:
        raise ValueError("now must carry its time zone")
    return None if program.expiry.days is None else now + timedelta(days=program.expiry.days)


def load_program(file: Traversable) -> Program:
    """Read one program file. Raises `InvalidProgram` with every fault, each with its place."""
    try:
        content = tomllib.loads(file.read_bytes().decode())
    except OSError as cause:
        raise _invalid(file.name, [f"the file cannot be read: {cause.strerror or cause}"]) from None
    except UnicodeDecodeError as cause:
        raise _invalid(file.name, [f"the file is not UTF-8: byte {cause.start}"]) from None
    except tomllib.TOMLDecodeError as cause:
        raise _invalid(file.name, [f"the file is not TOML: {cause}"]) from None
    return parse_program(content, source=file.name)


def parse_program(content: Mapping[str, object], source: str = "the program") -> Program:
    """A program from what a TOML file says. Raises `InvalidProgram` with every fault, each with its place."""
    try:
        return Program.model_validate_json(json.dumps(content, default=str))
    except ValidationError as cause:
        raise _invalid(source, faults_of(cause, Program)) from None


@lru_cache(maxsize=_PROGRAMS_KEPT)
def from_json(text: str) -> Program:
    """The inverse of `Program.to_json`. Raises `InvalidProgram`.

    Validating one takes 10 ms, and every step of every charge reads one: equal texts are one program, read once.
    """
    try:
        return Program.model_validate_json(text)
    except ValidationError as cause:
        raise _invalid("the stored program", faults_of(cause, Program)) from None


def example_programs() -> tuple[Program, ...]:
    """The programs that come with refill, in the order of their file names."""
    folder = files("config") / "programs"
    found = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    return tuple(load_program(file) for file in sorted(found, key=lambda file: file.name))


def _invalid(source: str, faults: list[str]) -> InvalidProgram:
    heading = f"{source} has {'a fault' if len(faults) == 1 else f'{len(faults)} faults'}:"
    return InvalidProgram("\n  ".join([heading, *faults]), source=source, faults=tuple(faults))
