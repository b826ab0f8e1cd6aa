"""The settings of refill, read and checked before anything starts.

Values come from the environment; names that are missing there come from ``refill.env``, the file that ``refill up``
writes into its data directory. A bad value stops the start with every fault at once.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from annotated_types import Ge, Le
from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.faults import SettingsError, SettingsFault
from config.fields import NetworkRule, Settings, env_name, field_names, shown

__all__ = [
    "ENVIRONMENT_FILE",
    "SettingRow",
    "Settings",
    "SettingsError",
    "SettingsFault",
    "describe",
    "load_settings",
]

ENVIRONMENT_FILE = "refill.env"

Requirement = Literal["database_url", "redis_url", "broker_url", "stripe_api_key", "mail"]

_HOW_TO_GET: Mapping[Requirement, tuple[str, str]] = {
    "database_url": (
        "DATABASE_URL",
        "is needed: `refill up` starts a database here, or set it to one, like postgresql://user:password@host/database",
    ),
    "redis_url": (
        "REDIS_URL",
        "is needed: `refill up` starts a Redis here, or set it to one, like redis://host:6379/0",
    ),
    "broker_url": (
        "REFILL_BROKER_URL",
        "is needed: `refill up` starts a Redis here, or set REDIS_URL or this, like redis://host:6379/0",
    ),
    "stripe_api_key": (
        "STRIPE_API_KEY",
        "is needed: `refill up` starts a sandbox processor here, or set it to your secret key (sk_...)",
    ),
    "mail": (
        "SMTP_URL",
        "is needed: set it, like smtp://host:25, or set MAIL_DIR to a directory for messages, as `refill up` does",
    ),
}

# A value from the environment makes these values of the file belong to something else: a real key must not meet the
# sandbox, and a mail server that was asked for must not lose its mail to a directory.
_FILE_VALUES_DROPPED: Mapping[str, tuple[str, ...]] = {
    "STRIPE_API_KEY": ("STRIPE_API_BASE",),
    "SMTP_URL": ("MAIL_DIR",),
    "MAIL_DIR": ("SMTP_URL",),
    "REDIS_URL": ("REFILL_BROKER_URL",),
}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of ``refill settings``. ``source`` is ``environment``, the path of a file, ``default`` or ``code``."""

    name: str
    value: str
    default: str
    sentence: str
    source: str


@dataclass(frozen=True, slots=True)
class _Found:
    value: str
    source: str


def load_settings(environ: Mapping[str, str] | None = None, require: Iterable[Requirement] = ()) -> Settings:
    """The settings from the environment (or ``environ``) and, for names missing there, from ``refill.env``.

    The file lies in ``$REFILL_DATA``. An empty value counts as missing. ``require`` names what this process cannot do
    without. Raises ``SettingsError`` with every fault at once.
    """
    given = os.environ if environ is None else environ
    found = {name: _Found(value, "environment") for name, value in given.items() if value and _is_ours(name)}
    from_file, faults = _read_file(Path(found["REFILL_DATA"].value if "REFILL_DATA" in found else ".refill"))
    found = _without_dropped(from_file, found) | found
    faults += _unknown(found)
    settings, invalid = _validate(found)
    faults += [*invalid, *_missing(found, require)]
    if settings is None or faults:
        raise SettingsError(faults)
    return settings


def describe(settings: Settings) -> list[SettingRow]:
    """Every setting as ``refill settings`` shows it, secrets hidden."""
    return [
        SettingRow(
            name=env_name(name),
            value=shown(name, getattr(settings, name)),
            default="REDIS_URL" if name == "broker_url" else shown(name, field.default),
            sentence=field.description or "",
            source=settings._sources.get(name, "code" if name in settings.model_fields_set else "default"),
        )
        for name, field in Settings.model_fields.items()
    ]


def _is_ours(name: str) -> bool:
    return name.startswith("REFILL_") or name in field_names()


def _read_file(data: Path) -> tuple[dict[str, _Found], list[SettingsFault]]:
    path = data / ENVIRONMENT_FILE
    try:
        if not path.is_file():
            return {}, []
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        return {}, [SettingsFault(str(path), None, f"cannot be read: {error}")]
    return {name: _Found(value, str(path)) for name, value in values.items() if value and _is_ours(name)}, []


def _without_dropped(from_file: Mapping[str, _Found], from_environment: Mapping[str, _Found]) -> dict[str, _Found]:
    dropped = {other for name in from_environment for other in _FILE_VALUES_DROPPED.get(name, ())}
    return {name: found for name, found in from_file.items() if name not in dropped}


def _unknown(found: Mapping[str, _Found]) -> list[SettingsFault]:
    return [
        SettingsFault(name, None, f"is no setting; {_suggestion(name)}")
        for name in sorted(found.keys() - field_names().keys())
    ]


def _suggestion(name: str) -> str:
    known = {known.removeprefix("REFILL_"): known for known in field_names()}
    near = difflib.get_close_matches(name.removeprefix("REFILL_"), known, n=1)
    return f"did you mean {known[near[0]]}?" if near else "`refill settings` lists those that exist"


def _validate(found: Mapping[str, _Found]) -> tuple[Settings | None, list[SettingsFault]]:
    given = {name: found[given_as] for given_as, name in field_names().items() if given_as in found}
    try:
        settings = Settings.model_validate({name: one.value for name, one in given.items()})
    except ValidationError as error:
        return None, [_fault(name, details, found) for name, details in _errors(error) if env_name(name) in found]
    settings._sources = {name: one.source for name, one in given.items()}
    return settings, _live_key_in_the_clear(settings)


def _errors(error: ValidationError) -> Iterator[tuple[str, ErrorDetails]]:
    """Errors by field name; among them defaults that could not be made of a wrong value, under names not given."""
    return ((str(details["loc"][0]), details) for details in error.errors(include_url=False))


def _fault(name: str, details: ErrorDetails, found: Mapping[str, _Found]) -> SettingsFault:
    given_as = env_name(name)
    return SettingsFault(given_as, shown(name, found[given_as].value), _what_is_right(name, details))


def _what_is_right(name: str, details: ErrorDetails) -> str:
    match details["type"]:
        case "value_error":
            return str(details["ctx"]["error"])
        case "literal_error":
            return f"must be {details['ctx']['expected']}".replace("'", "")
        case _:
            return _range(Settings.model_fields[name])


def _range(field: FieldInfo) -> str:
    low = next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)
    high = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)
    rule = next((f" ({rule.sentence})" for rule in field.metadata if isinstance(rule, NetworkRule)), "")
    return f"must be a whole number from {low} to {high}{rule}"


def _live_key_in_the_clear(settings: Settings) -> list[SettingsFault]:
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    if "_live_" not in key or settings.stripe_api_base.startswith("https://"):
        return []
    return [SettingsFault("STRIPE_API_BASE", settings.stripe_api_base, "must start with https:// for a live key")]


def _missing(found: Mapping[str, _Found], require: Iterable[Requirement]) -> list[SettingsFault]:
    alternatives = {"mail": {"SMTP_URL", "MAIL_DIR"}, "broker_url": {"REFILL_BROKER_URL", "REDIS_URL"}}
    needs = [_HOW_TO_GET[need] for need in require if not alternatives.get(need, {_HOW_TO_GET[need][0]}) & found.keys()]
    return [SettingsFault(name, None, message) for name, message in needs]
