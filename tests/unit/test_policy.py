"""Which level decides each setting of a policy."""

from __future__ import annotations

import pytest

from jobs.errors import Malformed
from jobs.money import Money
from jobs.policy import (
    AmountNotOffered,
    FieldLocked,
    PolicySettings,
    Setting,
    UnknownTier,
    check_settings,
    check_unlocked,
    effective_policy,
)
from jobs.program import Program, example_programs, parse_program

POINTS = {program.name: program for program in example_programs()}["points"]
NOTHING = PolicySettings()


def locked_program() -> Program:
    return parse_program(
        {
            "name": "made",
            "title": "Made",
            "currency": "USD",
            "decimals": 0,
            "unit": {"singular": "one", "plural": "many"},
            "price": {"unit_price": "1"},
            "packs": [10, 20],
            "expiry": {"kind": "none"},
            "seller": {"name": "Example"},
            "policy": {"alert_below": 5},
            "tiers": {"t": {"target": 100, "locked": ["amount", "alert_below", "enabled"]}},
        }
    )


def test_an_account_that_says_nothing_has_what_the_program_says_and_is_off() -> None:
    policy = effective_policy(POINTS, None, NOTHING)
    assert policy.alert_below == Setting(1000, "program")
    assert policy.cap_month == Setting(Money(50_000, "USD"), "program")
    assert policy.cap_day == Setting(None, "program")
    assert policy.enabled == Setting(False, "program")
    assert policy.bills == "own"


def test_the_tier_goes_before_the_program_and_the_account_before_both() -> None:
    own = PolicySettings(alert_below=20_000, enabled=True)
    policy = effective_policy(POINTS, "managed", own)
    assert policy.alert_below == Setting(20_000, "account")
    assert policy.enabled == Setting(True, "account")
    assert policy.amount == Setting(10_000, "tier", locked=True)
    assert policy.bills == "manager"


def test_a_locked_setting_is_the_tiers_whatever_the_account_says() -> None:
    policy = effective_policy(POINTS, "managed", PolicySettings(amount=500, cap_month=Money(1, "USD")))
    assert policy.amount == Setting(10_000, "tier", locked=True)
    assert policy.cap_month == Setting(Money(500_000, "USD"), "tier", locked=True)


def test_a_locked_setting_falls_to_the_program_and_only_then_to_the_account() -> None:
    policy = effective_policy(locked_program(), "t", PolicySettings(alert_below=1, enabled=True))
    assert policy.alert_below == Setting(5, "program", locked=True)
    assert policy.enabled == Setting(True, "account", locked=True)


def test_amount_and_target_are_one_choice() -> None:
    policy = effective_policy(POINTS, None, PolicySettings(target=5000))
    assert (policy.target, policy.amount) == (Setting(5000, "account"), Setting(None, "account"))
    policy = effective_policy(locked_program(), "t", PolicySettings(amount=10))
    assert (policy.target, policy.amount) == (Setting(100, "tier", locked=True), Setting(None, "tier", locked=True))


@pytest.mark.parametrize(
    "wanted", [PolicySettings(amount=500), PolicySettings(target=500), PolicySettings(recharge_below=1)]
)
def test_a_locked_setting_is_refused_with_its_code(wanted: PolicySettings) -> None:
    with pytest.raises(FieldLocked, match="is locked by the tier managed of points") as refusal:
        check_unlocked(POINTS, "managed", wanted)
    assert (refusal.value.code, refusal.value.exit_status) == ("field_locked", 1)


def test_what_is_not_locked_may_be_changed() -> None:
    check_unlocked(POINTS, "managed", PolicySettings(alert_below=1, enabled=False))
    check_unlocked(POINTS, "self_service", PolicySettings(amount=500, recharge_below=1, enabled=True))
    check_unlocked(POINTS, None, PolicySettings(amount=500))


def test_a_tier_that_the_program_does_not_have_is_refused() -> None:
    with pytest.raises(UnknownTier, match="its tiers: self_service, managed"):
        effective_policy(POINTS, "gold", NOTHING)


def test_an_amount_is_chosen_from_the_list() -> None:
    check_settings(POINTS, PolicySettings(amount=2500, cap_day=Money(100, "USD")))
    with pytest.raises(AmountNotOffered, match="choose one of 500, 1000, 2500"):
        check_settings(POINTS, PolicySettings(amount=501))


@pytest.mark.parametrize(
    ("wanted", "because"),
    [
        (PolicySettings(amount=500, target=500), "either an amount or a target"),
        (PolicySettings(cap_month=Money(100, "AUD")), "must be in USD"),
        (PolicySettings(cap_day=Money(100, "AUD")), "must be in USD"),
    ],
)
def test_settings_that_contradict_are_refused(wanted: PolicySettings, because: str) -> None:
    with pytest.raises(Malformed, match=because):
        check_settings(POINTS, wanted)
