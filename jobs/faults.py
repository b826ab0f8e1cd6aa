"""Faults of a file as sentences: where, and what would be right, from what pydantic found."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_SENTENCES: Final = {
    "missing": "is missing",
    "string_type": "must be text in quotes, not {value}",
    "int_type": "must be a whole number, not {value}",
    "int_from_float": "must be a whole number, not {value}",
    "bool_type": "must be true or false, not {value}",
    "tuple_type": "must be a list, not {value}",
    "dict_type": "must be a table, not {value}",
    "model_type": "must be a table, not {value}",
    "model_attributes_type": "must be a table, not {value}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} item",
    "too_long": "must have at most {max_length} items",
    "greater_than_equal": "must be {ge} or more, not {value}",
    "less_than_equal": "must be {le} or less, not {value}",
    "literal_error": "must be {expected}, not {value}",
    "value_error": "{error}",
}
_SHOWN_CHARACTERS_MAX: Final = 60


def faults_of(cause: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per fault, in the order of the model: ``packs[2]: must be 1 or more, not -5``."""
    return [_line(error, model) for error in cause.errors(include_url=False)]


def _line(error: ErrorDetails, model: type[BaseModel]) -> str:
    where = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{where}: is not known here{_did_you_mean(error['loc'], model)}"
    template = _SENTENCES.get(error["type"])
    if template is None:
        return f"{where}: {error['msg']}"
    words = {**error.get("ctx", {}), "value": _shown(error["input"])}
    return f"{where}: {template.format_map(words)}"


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location if step != "[key]")
    return "".join(steps).lstrip(".") or "the file"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}…"


def _did_you_mean(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    section = _section_at(location[:-1], model)
    known = [] if section is None else [field.alias or name for name, field in section.model_fields.items()]
    close = get_close_matches(str(location[-1]), known, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(known)}"


def _section_at(location: tuple[int | str, ...], model: type[BaseModel]) -> type[BaseModel] | None:
    """The model of the table at ``location``; positions in a list and keys of a mapping lead into their items."""
    section: type[BaseModel] | None = model
    for step in location:
        if section is not None and isinstance(step, str) and step in section.model_fields:
            section = _model_within(section.model_fields[step].annotation)
    return section


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_within(part))), None)
