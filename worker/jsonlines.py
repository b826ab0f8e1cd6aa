"""One JSON object per line: the form of logs and of ``--json``.

Times are RFC 3339 in UTC, exact decimals and UUIDs are strings, money is an integer of minor units beside its currency.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import Enum

import orjson

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS


def encode(row: Mapping[str, object]) -> str:
    """The row as one line without its end.

    Whatever is in the row, there is a line: a log that fails on odd input hides the very row one looks for.
    """
    try:
        return orjson.dumps(row, default=plain, option=_OPTIONS).decode()
    except TypeError:  # integers over 64 bits, and text that is not UTF-8, which orjson refuses
        return json.dumps(_encodable(row), default=plain, separators=(",", ":"), ensure_ascii=False)


def plain(value: object) -> object:
    """A value that JSON has no form for, as one that it has."""
    match value:
        case datetime():
            return rfc3339(value)
        case date():
            return value.isoformat()
        case set() | frozenset():
            return sorted(value, key=str)
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
        case Enum():
            return str(value.value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case _:
            return str(value)


def rfc3339(moment: datetime) -> str:
    """A moment in UTC, like ``2026-03-01T09:30:00Z``; one without a time zone stays without and can be told by that."""
    return moment.isoformat() if moment.tzinfo is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _encodable(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_encodable(str(name)): _encodable(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_encodable(inner) for inner in value]
        case _:
            return value
