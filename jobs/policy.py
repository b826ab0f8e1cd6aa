"""The policy in effect: each setting from the account, else its tier, else the program, with the level it is from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Generic, Literal, TypeVar

from jobs.errors import Malformed, Refused
from jobs.money import Money, parse_money
from jobs.program import PolicyDefaults, PolicyField, Program, Tier

Value = TypeVar("Value", covariant=True)
Level = Literal["account", "tier", "program"]
_CreditsField = Literal["alert_below", "recharge_below", "amount", "target"]

_MODE: Final[tuple[PolicyField, PolicyField]] = ("amount", "target")


class FieldLocked(Refused):
    """The account's tier does not let this setting be changed."""

    code = "field_locked"


class UnknownTier(Refused):
    """The program has no tier of this name."""

    code = "unknown_tier"


class AmountNotOffered(Refused):
    """The recharge amount is not on the program's list."""

    code = "amount_not_offered"


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What one level says; None where it says nothing. Credits in the smallest unit, caps gross."""

    alert_below: int | None = None
    recharge_below: int | None = None
    amount: int | None = None
    target: int | None = None
    cap_month: Money | None = None
    cap_day: Money | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Setting(Generic[Value]):
    """A value, the level that it comes from, and whether the tier locks it."""

    value: Value
    source: Level
    locked: bool = False


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What applies to an account now. At most one of ``amount`` and ``target`` has a value: they are one choice."""

    alert_below: Setting[int | None]
    recharge_below: Setting[int | None]
    amount: Setting[int | None]
    target: Setting[int | None]
    cap_month: Setting[Money | None]
    cap_day: Setting[Money | None]
    enabled: Setting[bool]
    bills: Literal["own", "manager"]


@dataclass(frozen=True, slots=True)
class _Levels:
    """The three levels of one account, from the nearest to the farthest."""

    account: PolicySettings
    tier: PolicySettings
    program: PolicySettings
    locked: frozenset[str]

    def settle(self, name: PolicyField, of: tuple[PolicyField, ...]) -> tuple[Level, bool]:
        """Which level decides ``name``, one of the fields ``of`` that are chosen together; and whether it is locked."""
        locked = not self.locked.isdisjoint(of)
        free: tuple[Level, ...] = ("account", "tier", "program")
        order: tuple[Level, ...] = ("tier", "program", "account") if locked else free
        return next((level for level in order if _says(getattr(self, level), of)), "program"), locked


def effective_policy(program: Program, tier: str | None, own: PolicySettings) -> EffectivePolicy:
    """Merge the levels. ``tier`` is the name of the account's tier or None.

    In a locked field the account is heard last: what it says stands only where neither tier nor program says anything.
    ``amount`` and ``target`` are one choice, decided and locked together.
    Raises `UnknownTier`.
    """
    rules = tier_of(program, tier)
    levels = _Levels(
        own, _settings(rules, program.currency), _settings(program.policy, program.currency), frozenset(rules.locked)
    )
    return EffectivePolicy(
        alert_below=_credits(levels, "alert_below"),
        recharge_below=_credits(levels, "recharge_below"),
        amount=_credits(levels, "amount"),
        target=_credits(levels, "target"),
        cap_month=_cap(levels, "cap_month"),
        cap_day=_cap(levels, "cap_day"),
        enabled=_enabled(levels),
        bills=rules.bills,
    )


def check_unlocked(program: Program, tier: str | None, wanted: PolicySettings) -> None:
    """Refuse a change, by anyone but the operator, of what the tier locks; fields that are None are not changed.

    Raises `FieldLocked` for the first such field, and `UnknownTier`.
    """
    locked = frozenset(tier_of(program, tier).locked)
    for name in _given(wanted):
        if not locked.isdisjoint(_chosen_with(name)):
            raise FieldLocked(f"{name} is locked by the tier {tier} of {program.name}", field=name)


def check_settings(program: Program, wanted: PolicySettings) -> None:
    """Refuse settings that the program does not offer; fields that are None are not changed.

    Raises `AmountNotOffered`, and `Malformed` for settings that contradict each other or the program's currency.
    """
    if wanted.amount is not None and wanted.target is not None:
        raise Malformed("a policy has either an amount or a target, not both")
    if wanted.amount is not None and wanted.amount not in program.recharge_amounts:
        offered = ", ".join(map(str, program.recharge_amounts))
        raise AmountNotOffered(f"{wanted.amount} is not a recharge amount of {program.name}: choose one of {offered}")
    for cap in (wanted.cap_month, wanted.cap_day):
        if cap is not None and cap.currency != program.currency:
            raise Malformed(f"the cap {cap} must be in {program.currency}")


def tier_of(program: Program, name: str | None) -> Tier:
    """The tier, or one that says nothing where ``name`` is None. Raises `UnknownTier`."""
    if name is None:
        return Tier()
    if name not in program.tiers:
        known = ", ".join(program.tiers) or "none"
        raise UnknownTier(f"{program.name} has no tier {name!r}; its tiers: {known}")
    return program.tiers[name]


def _settings(defaults: PolicyDefaults, currency: str) -> PolicySettings:
    def cap(text: str | None) -> Money | None:
        return None if text is None else parse_money(text, currency)

    return PolicySettings(
        defaults.alert_below,
        defaults.recharge_below,
        defaults.amount,
        defaults.target,
        cap(defaults.cap_month),
        cap(defaults.cap_day),
    )


def _credits(
    levels: _Levels, name: Literal["alert_below", "recharge_below", "amount", "target"]
) -> Setting[int | None]:
    source, locked = levels.settle(name, _chosen_with(name))
    level: PolicySettings = getattr(levels, source)
    values = {
        "alert_below": level.alert_below,
        "recharge_below": level.recharge_below,
        "amount": level.amount,
        "target": level.target,
    }
    return Setting(values[name], source, locked)


def _cap(levels: _Levels, name: Literal["cap_month", "cap_day"]) -> Setting[Money | None]:
    source, locked = levels.settle(name, (name,))
    level: PolicySettings = getattr(levels, source)
    return Setting(level.cap_month if name == "cap_month" else level.cap_day, source, locked)


def _enabled(levels: _Levels) -> Setting[bool]:
    source, locked = levels.settle("enabled", ("enabled",))
    level: PolicySettings = getattr(levels, source)
    return Setting(level.enabled is True, source, locked)


def _chosen_with(name: PolicyField) -> tuple[PolicyField, ...]:
    return _MODE if name in _MODE else (name,)


def _given(settings: PolicySettings) -> list[PolicyField]:
    return [field.name for field in fields(settings) if getattr(settings, field.name) is not None]  # type: ignore[misc]


def _says(settings: PolicySettings, names: tuple[PolicyField, ...]) -> bool:
    return any(getattr(settings, name) is not None for name in names)
