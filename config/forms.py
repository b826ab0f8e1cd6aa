"""The forms that a setting's value may have: URLs, addresses, directories. Every check says what would be right."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

_SECRET_IN_QUERY = re.compile(r"(?i)\b(pass|passwd|password|secret|token)=[^&\s]*")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")  # a surrogate is a byte that was not UTF-8
_ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
_STRIPE_KEY = re.compile(r"[sr]k_[A-Za-z0-9_]+")
_STRIPE_KEY_KIND = re.compile(r"[a-z]{2}_(?:live_|test_)?")


def hide_password(url: str) -> str:
    """The same URL, fit to be shown: the password and every secret of the query are three stars."""
    head, at, tail = url.rpartition("@")
    scheme, separator, userinfo = head.partition("://") if "://" in head else ("", "", head)
    user, colon, _ = userinfo.partition(":")
    shown = f"{scheme}{separator}{user}{':***' if colon else ''}@{tail}" if at else url
    return _SECRET_IN_QUERY.sub(r"\1=***", shown)


def hide_key(key: str) -> str:
    """The kind of a Stripe key (``sk_test_``), and nothing of the key."""
    kind = _STRIPE_KEY_KIND.match(key)
    return f"{kind.group() if kind else ''}***"


def url_form(*schemes: str, example: str, host_needed: bool = True) -> Callable[[str], str]:
    """A check that a text is a URL with one of these schemes and, where it has one, a port number that can be."""

    def check(value: str) -> str:
        parts = _split(value, example)
        if parts.scheme not in schemes:
            raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}, like {example}")
        if host_needed and not parts.hostname and parts.scheme != "unix":
            raise ValueError(f"must name a host, like {example}")
        return value

    return check


def processor_url(value: str) -> str:
    """A check for the processor's base URL: plain HTTP would show card data, so only this machine may be asked so."""
    example = "https://api.stripe.com"
    parts = _split(value, example)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"must be a URL like {example}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("must start with https://; http:// is for a processor on this machine only (127.0.0.1)")
    return value.rstrip("/")


def processor_key(value: str) -> str:
    """A check for the processor's key; the publishable key is the usual mistake."""
    if value.startswith("pk_"):
        raise ValueError("must be the secret key (sk_...) or a restricted one (rk_...), not the publishable key")
    if not _STRIPE_KEY.fullmatch(value):
        raise ValueError("must be a secret key (sk_...) or a restricted one (rk_...)")
    return value


def mail_address(value: str) -> str:
    """A check for one sender: ``refill@example.com`` or ``Refill <refill@example.com>``."""
    _, address = parseaddr(value)
    if _UNPRINTABLE.search(value.replace(" ", "")) or not _ADDRESS.fullmatch(address):
        raise ValueError("must be one e-mail address, like refill@example.com or Refill <refill@example.com>")
    return value


def directory(value: Path) -> Path:
    """A check that a path is a directory, or is free to become one."""
    try:
        taken = value.exists() and not value.is_dir()
    except OSError as error:
        raise ValueError(f"must be a directory that can be read ({error.strerror})") from error
    if taken:
        raise ValueError("must be a directory; a file lies there")
    return value


def _split(value: str, example: str) -> SplitResult:
    if _UNPRINTABLE.search(value):
        raise ValueError(f"must be one URL in UTF-8 without spaces, like {example}")
    try:
        parts = urlsplit(value)
        if "," not in parts.netloc:  # PostgreSQL takes several hosts, each with its port
            _ = parts.port
    except ValueError as error:
        raise ValueError(f"must be a URL like {example} ({error})") from error
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
