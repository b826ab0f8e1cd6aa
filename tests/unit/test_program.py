"""Program files: what is read, what is refused and in which words."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InvalidProgram
from jobs.money import Money
from jobs.program import Program, example_programs, from_json, load_program, lot_expiry, parse_program

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SMALL = """
name = "tokens"
title = "Tokens"
currency = "USD"
decimals = 0
packs = [100, 1000]
unit = { singular = "token", plural = "tokens" }
price = { unit_price = "0.01" }
expiry = { kind = "none" }
seller = { name = "Example" }
"""


def content(**changes: Any) -> dict[str, Any]:
    return {**tomllib.loads(SMALL), **changes}


def faults(changed: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidProgram) as refusal:
        parse_program(changed)
    found = refusal.value.details["faults"]
    assert isinstance(found, tuple)
    assert all(fault in str(refusal.value) for fault in found)
    return list(found)


@pytest.fixture(scope="module")
def examples() -> dict[str, Program]:
    return {program.name: program for program in example_programs()}


def test_the_three_example_programs_are_there(examples: dict[str, Program]) -> None:
    assert list(examples) == ["mail", "points", "sms"]


def test_mail_credit_is_dollars_for_180_days(examples: dict[str, Program]) -> None:
    mail = examples["mail"]
    assert (mail.currency, mail.decimals, mail.price.steps()) == ("USD", 2, ((1, Decimal(1)),))
    assert (mail.expiry.kind, mail.expiry.days) == ("fixed", 180)
    assert mail.minimum_charge_money() == Money(200, "USD")
    assert [pack // 100 for pack in mail.packs] == [10, 25, 50, 100, 250, 500, 1000]
    assert mail.recharge_amounts == mail.packs
    assert mail.show(1250) == "12.50 dollars of mail credit"


def test_sms_credits_are_whole_in_tiers_with_gst_and_do_not_expire(examples: dict[str, Program]) -> None:
    sms = examples["sms"]
    assert (sms.currency, sms.decimals, sms.expiry.kind) == ("AUD", 0, "none")
    assert len(sms.price.steps()) > 1
    assert sms.tax is not None
    assert (sms.tax.name, sms.tax.rate) == ("GST", "10")
    assert sms.organisations.system_account


def test_points_have_recharge_amounts_inactivity_and_tiers(examples: dict[str, Program]) -> None:
    points = examples["points"]
    assert (points.currency, points.decimals) == ("USD", 0)
    assert points.recharge_amounts == (500, 1000, 2500, 5000, 10000, 25000)
    assert (points.expiry.kind, points.expiry.days) == ("inactivity", 365)
    assert list(points.tiers) == ["self_service", "managed"]
    assert points.tiers["managed"].bills == "manager"


def test_what_is_stored_is_the_same_program(examples: dict[str, Program]) -> None:
    for program in examples.values():
        assert from_json(program.to_json()) == program
        assert from_json(program.to_json()).to_json() == program.to_json()


def test_what_is_stored_is_read_once_for_each_content(examples: dict[str, Program]) -> None:
    texts = [program.to_json() for program in examples.values()]
    assert len({id(from_json(text)) for text in texts * 2}) == len(texts)


def test_a_small_program_is_enough() -> None:
    program = parse_program(content())
    assert (program.time_zone, program.wait_limit_s, program.sells) == ("UTC", 0, "packs")
    assert program.recharge_amounts == (100, 1000)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "Tokens"}, "name: must be 1 to 32 of a-z, 0-9 and _, and begin with a letter"),
        ({"name": "tokens\n"}, "name: must be 1 to 32 of"),
        ({"title": ""}, "title: must not be empty"),
        ({"title": True}, "title: must be text in quotes, not true"),
        ({"currency": "usd"}, "currency: 'usd' is not the ISO 4217 code of a currency in use"),
        ({"decimals": 7}, "decimals: must be 6 or less, not 7"),
        ({"decimals": "2"}, "decimals: must be a whole number, not '2'"),
        ({"time_zone": "Mars/Olympus"}, "time_zone: 'Mars/Olympus' is not a time zone"),
        ({"packs": [100, 1000, -5]}, "packs[2]: must be 1 or more, not -5"),
        ({"packs": [100, 12.5]}, "packs[1]: must be a whole number, not 12.5"),
        ({"packs": [100, 10**30]}, "packs[1]: must be"),
        ({"packs": []}, "packs: must have at least 1 item"),
        ({"packs": [1000, 100]}, "packs: must be in ascending order, each once"),
        ({"packs": [9_999, 1_000_003]}, "packs: must share a divisor"),
        ({"packs": 100}, "packs: must be a list, not 100"),
        ({"packs": None}, "packs: must be a list"),
        ({"price": {"unit_price": "0"}}, "price.unit_price: must be above zero"),
        ({"price": {"unit_price": 0.01}}, "price.unit_price: must be text in quotes, not 0.01"),
        ({"price": {"unit_price": "1e-3"}}, "price.unit_price: '1e-3' is not a decimal number"),
        ({"price": {}}, "price: must have either unit_price or tiers"),
        (
            {"price": {"tiers": [{"from": 5, "unit_price": "1"}]}},
            "price.tiers: must begin with a tier that says from = 1",
        ),
        (
            {"price": {"tiers": [{"from": 1, "unit_price": "1"}, {"from": 1, "unit_price": "2"}]}},
            "price.tiers: must be in ascending order of from",
        ),
        ({"price": {"unit_price": "0.00001"}}, "smallest_purchase: must cost something, but 1 credits cost 0.00 USD"),
        ({"expiry": {"kind": "fixed"}}, "expiry.days: must be given where kind is 'fixed'"),
        ({"expiry": {"kind": "none", "days": 5}}, "expiry.days: must be left out where kind is 'none'"),
        ({"expiry": {"kind": "sometimes"}}, "expiry.kind: must be 'none', 'fixed' or 'inactivity', not 'sometimes'"),
        ({"minimum_charge": "2.005"}, "minimum_charge: '2.005' has 3 decimals, but USD has 2"),
        ({"minimum_charge": "2 EUR"}, "minimum_charge: '2 EUR' is in EUR, but USD is asked for"),
        ({"tax": {"name": "VAT", "rate": "101"}}, "tax.rate: must be a percentage from 0 to 100"),
        ({"tax": {"name": "VAT", "rate": "-1"}}, "tax.rate: '-1' is not a decimal number"),
        ({"seller": "Example"}, "seller: must be a table, not 'Example'"),
        ({"wait_limit_s": -1}, "wait_limit_s: must be 0 or more, not -1"),
        ({"tiers": {"a": {"locked": ["amont"]}}}, "tiers.a.locked[0]: must be 'alert_below'"),
        ({"tiers": {"a": {"bills": "me"}}}, "tiers.a.bills: must be 'own' or 'manager', not 'me'"),
        ({"tiers": {"a": {"amount": 7}}}, "tiers: a: amount must be one of recharge_amounts, not 7"),
        ({"tiers": {"a": {"cap_day": "1.234"}}}, "tiers: a: cap_day: '1.234' has 3 decimals"),
        ({"tiers": {"A": {}}}, "tiers.A: must be 1 to 32"),
        ({"policy": {"amount": 100, "target": 500}}, "policy.target: must be left out where amount is given"),
        ({"policy": {"recharge_below": 500, "target": 400}}, "policy: target must be recharge_below (500) or above"),
        ({"curency": "USD"}, 'curency: is not known here; did you mean "currency"?'),
        ({"unit": {"singular": "a", "plurral": "b"}}, 'unit.plurral: is not known here; did you mean "plural"?'),
        ({"tiers": {"a": {"bils": "own"}}}, 'tiers.a.bils: is not known here; did you mean "bills"?'),
        ({"price": {"tiers": [{"form": 1}]}}, 'price.tiers[0].form: is not known here; did you mean "from"?'),
        ({"zzz": 1}, "zzz: is not known here; known are name, title"),
    ],
)
def test_a_fault_is_said_with_its_place_and_what_would_be_right(changes: dict[str, Any], fault: str) -> None:
    found = faults(content(**changes))
    assert any(line.startswith(fault) for line in found), found


def test_every_fault_is_said_at_once() -> None:
    broken = content(title=1, packs=[100, -5], time_zone="Mars", expiry={"kind": "fixed"}, colour="red")
    del broken["currency"]
    assert [fault.partition(":")[0] for fault in faults(broken)] == [
        "title",
        "currency",
        "time_zone",
        "expiry.days",
        "packs[1]",
        "colour",
    ]


def test_a_faulty_currency_is_not_blamed_on_the_prices() -> None:
    assert len(faults(content(currency="usd", minimum_charge="2.00", policy={"cap_day": "5"}))) == 1


@pytest.mark.parametrize(
    ("written", "because"),
    [
        (b'name = "a', "is not TOML"),
        (b"name = '\xff'", "is not UTF-8"),
        (b"", "name: is missing"),
        (b"when = 2026-01-01\n", "when: is not known here"),
        (b"title = nan\n", "title: must be text in quotes"),
    ],
)
def test_a_file_that_cannot_be_a_program_is_refused(tmp_path: Path, written: bytes, because: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(written)
    with pytest.raises(InvalidProgram, match=because) as refusal:
        load_program(file)
    assert str(refusal.value).startswith("bad.toml has ")
    assert refusal.value.code == "invalid_program"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidProgram, match=r"gone\.toml has a fault:\n  the file cannot be read: No such file"):
        load_program(tmp_path / "gone.toml")


def test_a_stored_program_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidProgram, match="the stored program has"):
        from_json("[]")
    with pytest.raises(InvalidProgram, match="the stored program has"):
        from_json("{")


def test_credit_dies_so_many_days_after_it_was_granted(examples: dict[str, Program]) -> None:
    assert lot_expiry(examples["mail"], NOW) == NOW + timedelta(days=180)
    assert lot_expiry(examples["points"], NOW) == NOW + timedelta(days=365)
    assert lot_expiry(examples["sms"], NOW) is None
    with pytest.raises(ValueError, match="time zone"):
        lot_expiry(examples["mail"], NOW.replace(tzinfo=None))
