"""The forms of what people type: names of organisations, accounts and members, reasons, and e-mail addresses."""

from __future__ import annotations

import re
from typing import Final

from jobs.errors import Malformed

NAME_LENGTH_MAX: Final = 64
REASON_LENGTH_MAX: Final = 500
ADDRESS_LENGTH_MAX: Final = 254  # RFC 5321, section 4.5.3.1.3: a path of 256 octets with its two brackets
LOCAL_PART_LENGTH_MAX: Final = 64  # RFC 5321, section 4.5.3.1.1

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_SHOWN_CHARACTERS_MAX: Final = 70


def check_name(what: str, text: str) -> str:
    """The name, where it can be one: 1 to 64 printable characters, no blank at either end. Raises `Malformed`."""
    return _checked(what, text, NAME_LENGTH_MAX)


def check_reason(text: str) -> str:
    """The reason, where it is 1 to 500 printable characters. Raises `Malformed`."""
    return _checked("a reason", text, REASON_LENGTH_MAX)


def check_email(text: str) -> str:
    """The address, where it is one that any mail server takes: ASCII, unquoted, without a display name.

    Raises `Malformed`.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or len(text) > ADDRESS_LENGTH_MAX or len(match[1]) > LOCAL_PART_LENGTH_MAX:
        raise Malformed(f"{_shown(text)} is not an e-mail address such as office@example.com")
    return text


def _checked(what: str, text: str, most: int) -> str:
    if not 1 <= len(text) <= most:
        raise Malformed(f"{what} must have 1 to {most} characters, not {len(text)}")
    if not text.isprintable():
        raise Malformed(f"{what} must have printable characters only, unlike {_shown(text)}")
    if text != text.strip():
        raise Malformed(f"{what} must not begin or end with a blank: {_shown(text)}")
    return text


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}...")
