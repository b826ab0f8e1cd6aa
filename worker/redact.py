"""Takes out of a log row what must never be in it: secrets, card numbers, and e-mail addresses in full.

Amounts, ids and times stay as they are: a number is never touched, and text only where it has the form of a thing that
is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache

from structlog.typing import EventDict, WrappedLogger

HIDDEN = "***"

_DEPTH_MAX = 6

_SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "privatekey",
    "authorization",
    "credential",
    "cookie",
    "cardnumber",
    "cvc",
    "cvv",
)
_SECRET_NAMES = frozenset({"pwd", "pass", "auth", "pan"})

# Cheap searches first: nearly all text has none of these, and is passed as it is.
_SECRET_HINT = re.compile(r"[rs]k_|whsec_|bearer|basic |authori|pass|secret|token|api|cookie|cred|cv[cv]")  # lower case
_CARD_HINT = re.compile(r"[0-9]{13}|[0-9]{4}[ -][0-9]{4,6}[ -][0-9]")
_CARD_DIGITS_MIN = 13

_URL_PASSWORD = re.compile(r"(://[^\s:/@?#]{0,256}:)(?![0-9]{1,5}(?:[/?#\s,]|$))[^\s\"'<>]{1,512}(?=@)")
_PROCESSOR_SECRET = re.compile(r"(?<![A-Za-z0-9])((?:sk|rk)_(?:live_|test_)?|whsec_)[A-Za-z0-9_+/=]{3,}")
_CLIENT_SECRET = re.compile(r"(?<=_secret_)[A-Za-z0-9]{4,}")
_AUTHORIZATION = re.compile(
    r"(?i)((?:authorization|cookie)(?:\\{0,3}[\"'])?\s{0,4}[:=]\s{0,4}(?:b(?=[\"']))?(?:\\{0,3}[\"'])?)"
    r"(?:(?:basic|bearer|digest|token)\s+)?[^\s\"',;}]+"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{4,}")
_BASIC = re.compile(r"\b([Bb]asic\s+)(?=[A-Za-z0-9+/]*[A-Z0-9+/=])[A-Za-z0-9+/]{6,}={0,2}")
_ASSIGNMENT = re.compile(
    r"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|credentials?|cvc|cvv)[\"'\\\]]{0,5}\s{0,4}[=:]\s{0,4})"
    r"(?:b(?=[\"']))?(?:\\{0,3}\"[^\"]*|\\{0,3}'[^']*|[^\s,;&\"'})\]]+)"
)
_ADDRESS = re.compile(
    r"([^\s@<>\"'(),;:=&?/\[\]{}\\*%])[^\s@<>\"(),;:=&?/\[\]{}\\%]{0,127}(?:@|%40)([\w-]+(?:\.[\w-]+)*)"
)
# 13 to 19 digits in one piece, or in the groups that are printed on cards; by the first digits of the networks
# (ISO/IEC 7812), which no Unix time in milliseconds or finer has before the year 2039.
_CARD = re.compile(
    r"(?:(?<![0-9A-Za-z_])|(?<=\\[nrt])|(?<=%[0-9A-F]{2}))(?<![0-9]\.)"
    r"(?=[3-6]|2[2-7]|8[12]|9792)"
    r"(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})"
    r"(?![0-9A-Za-z_]|[.-][0-9])"
)


def redact(_logger: WrappedLogger, _method: str, row: EventDict) -> EventDict:
    """The structlog processor: the row with everything hidden that must be, at any depth.

    The names of the row itself are ours, and are left alone.
    """
    return {name: _field(name, value, 0) for name, value in row.items()}


def redacted(text: str, *, is_id: bool = False) -> str:
    """Text with secrets, card numbers and e-mail addresses hidden. An id may look like a card number and stays."""
    if len(text) < _CARD_DIGITS_MIN and text.isalnum():
        return text
    if "@" in text or "%40" in text:
        text = _ADDRESS.sub(r"\1***@\2", _URL_PASSWORD.sub(rf"\1{HIDDEN}", text))
    if _SECRET_HINT.search(text.lower()) is not None:
        text = _without_secrets(text)
    if is_id or _CARD_HINT.search(text) is None:
        return text
    return _CARD.sub(_without_card, text)


def _without_secrets(text: str) -> str:
    for secret in (_AUTHORIZATION, _BEARER, _BASIC, _ASSIGNMENT, _PROCESSOR_SECRET):
        text = secret.sub(rf"\1{HIDDEN}", text)
    return _CLIENT_SECRET.sub(HIDDEN, text)


def _field(name: str, value: object, depth: int) -> object:
    kind = _kind_of_name(name)
    if kind == "secret":
        return None if value is None else HIDDEN
    return _value(value, depth, is_id=kind == "id")


def _value(value: object, depth: int, *, is_id: bool) -> object:
    match value:
        case str():
            return redacted(value, is_id=is_id)
        case None | int() | float() | date():  # bool is an int, and datetime a date
            return value
        case bytes():
            return redacted(value.decode("utf-8", "backslashreplace"), is_id=is_id)
        case Mapping() if depth < _DEPTH_MAX:
            return {redacted(str(name)): _field(str(name), inner, depth + 1) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _DEPTH_MAX:
            return [_value(inner, depth + 1, is_id=is_id) for inner in value]
        case _:
            return redacted(str(value), is_id=is_id)


@lru_cache(maxsize=1024)
def _kind_of_name(name: str) -> str:
    """What a field of this name holds: a ``secret``, an ``id``, or ``text``."""
    squeezed = name.lower().replace("_", "").replace("-", "")
    if squeezed in _SECRET_NAMES or squeezed.endswith("token") or any(word in squeezed for word in _SECRET_WORDS):
        return "secret"
    return "id" if name in ("id", "seq") or name.endswith(("_id", "_ids")) else "text"


def _without_card(match: re.Match[str]) -> str:
    digits = [int(digit) for digit in match.group() if digit.isdigit()]
    return f"{HIDDEN}{match.group()[-4:]}" if 13 <= len(digits) <= 19 and _passes_luhn(digits) else match.group()


def _passes_luhn(digits: list[int]) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
