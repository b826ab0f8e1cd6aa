"""Form-encoded parameters with nested brackets, and typed reading of them with Stripe's messages for what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from jobs.gateway.sandbox.wire import Json, invalid

PART = re.compile(r"\[([^\[\]]*)\]")
KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
DEPTH_MAX = 8


def decode(encoded: bytes) -> Json:
    """Turn ``a[b][0]=c`` into ``{"a": {"b": {"0": "c"}}}``.

    Raises ApiError where the bytes are no form or a name is both a value and a group.
    """
    tree: Json = {}
    for name, value in _pairs(encoded):
        _put(tree, _path(name), value, name)
    return tree


def _pairs(encoded: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise invalid("Invalid request: the parameters are not form-encoded UTF-8.") from error


def _path(name: str) -> list[str]:
    match = KEY.fullmatch(name)
    if match is None:
        raise invalid(f"Invalid parameter name: {name}")
    path = [match[1], *PART.findall(match[2])]
    if len(path) > DEPTH_MAX:
        raise invalid(f"Invalid parameter name, nested too deep: {name}")
    return path


def _put(tree: Json, path: list[str], value: str, name: str) -> None:
    for part in path[:-1]:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            raise invalid(f"Invalid parameter: {name} is given both as a value and as a hash", name)
        tree = inner
    last = path[-1] or str(len(tree))
    if isinstance(tree.get(last), dict):
        raise invalid(f"Invalid parameter: {name} is given both as a value and as a hash", name)
    tree[last] = value


class Params:
    """The parameters of one request, or of one group in it. An empty string counts as not given, as at Stripe."""

    def __init__(self, tree: Json, prefix: str = "") -> None:
        self.tree = tree
        self._prefix = prefix

    def name(self, key: str) -> str:
        """The parameter's full name, as an error has to say it."""
        return f"{self._prefix}[{key}]" if self._prefix else key

    def allow(self, *keys: str) -> None:
        """Raises ApiError for a parameter that is not among ``keys``."""
        for key in self.tree:
            if key not in keys:
                raise invalid(f"Received unknown parameter: {self.name(key)}", self.name(key), "parameter_unknown")

    def given(self, key: str) -> bool:
        """Whether the parameter was sent at all, even empty."""
        return key in self.tree

    def text(self, key: str) -> str | None:
        """A string. Raises ApiError where a group was sent."""
        value = self.tree.get(key)
        if isinstance(value, dict):
            raise invalid(f"Invalid string: {value}", self.name(key))
        return str(value) if value else None

    def required(self, key: str) -> str:
        """A string that has to be there."""
        value = self.text(key)
        if value is None:
            raise invalid(f"Missing required param: {self.name(key)}.", self.name(key), "parameter_missing")
        return value

    def integer(self, key: str) -> int | None:
        """An integer. Raises ApiError for anything else, ``12.5`` too."""
        value = self.text(key)
        if value is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise invalid(f"Invalid integer: {value}", self.name(key), "parameter_invalid_integer")
        return int(value)

    def flag(self, key: str) -> bool:
        """A boolean, false where it is not given."""
        value = self.text(key) or "false"
        if value not in ("true", "false"):
            raise invalid(f"Invalid boolean: {value}", self.name(key))
        return value == "true"

    def one_of(self, key: str, *choices: str) -> str | None:
        """A string of a fixed set."""
        value = self.text(key)
        if value is not None and value not in choices:
            raise invalid(f"Invalid {key}: must be one of {', '.join(choices)}", self.name(key))
        return value

    def group(self, key: str) -> Params:
        """The parameters under ``key``, none where it is not given. Raises ApiError where a plain value was sent."""
        value = self.tree.get(key) or {}
        if not isinstance(value, dict):
            raise invalid("Invalid object", self.name(key))
        return Params(value, self.name(key))

    def items(self, key: str) -> list[str]:
        """A list of strings, sent as ``key[]`` or ``key[0]``."""
        return [value for _, value in self.group(key).pairs()]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every name with its string, empty ones too."""
        for key in self.tree:
            yield key, self.text(key) or ""


def merged_metadata(params: Params, before: Json) -> Json:
    """Metadata after the request: names set, and removed where sent empty."""
    if params.given("metadata") and params.tree["metadata"] == "":
        return {}
    changed = {**before, **dict(params.group("metadata").pairs())}
    return {key: value for key, value in changed.items() if value != ""}
