"""A policy in effect, in words for people: each setting formatted, and where it comes from."""

from __future__ import annotations

from jobs.money import Money, format_money
from jobs.policy import EffectivePolicy, Setting
from jobs.program import Program

FIELDS = ("alert_below", "recharge_below", "amount", "target", "cap_month", "cap_day", "enabled")


def setting_of(policy: EffectivePolicy, name: str) -> Setting[int | Money | bool | None]:
    """One setting by its name."""
    setting: Setting[int | Money | bool | None] = getattr(policy, name)
    return setting


def words(program: Program, value: int | Money | bool | None) -> str | None:
    """A value of a setting: credits in the program's unit, money in its currency, on or off."""
    match value:
        case None:
            return None
        case bool():
            return "on" if value else "off"
        case Money():
            return format_money(value)
        case int():
            return program.show(value)


def settings_words(program: Program, policy: EffectivePolicy, *, only_set: bool = False) -> dict[str, str | None]:
    """Every setting by its name for people; without ``enabled`` where only what is set is asked for."""
    names = [name for name in FIELDS if not (only_set and name == "enabled")]
    return {name.replace("_", " "): words(program, setting_of(policy, name).value) for name in names}
