"""Moments and days as people type them. Everything is UTC unless it says otherwise."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

from jobs.errors import Malformed, UsageError

YEARS: Final = (1970, 2199)

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK: Final = re.compile(r"\d\d:\d\d(:\d\d)?", re.ASCII)
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?( ?[Zz]| ?UTC|[+-]\d\d:\d\d)?", re.ASCII)


class FutureMoment(UsageError):
    """The moment lies in the future."""

    code = "future_moment"


def parse_moment(text: str, now: datetime) -> datetime:
    """``2026-03-01T09:30:00Z``, ``2026-03-01 09:30`` (UTC), ``2026-03-01`` (its start), ``09:30`` (the last one).

    Raises `Malformed`.
    """
    if _CLOCK.fullmatch(text):
        return _last(text, now)
    if not (_DATE.fullmatch(text) or _MOMENT.fullmatch(text)):
        raise _unreadable(text)
    try:
        moment = datetime.fromisoformat(text.upper().replace("UTC", "Z").replace(" Z", "Z"))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _unreadable(text) from None
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise _unreadable(text)
    return moment


def parse_past(text: str, now: datetime) -> datetime:
    """As `parse_moment`; raises `FutureMoment` where it has not come yet."""
    moment = parse_moment(text, now)
    if moment > now:
        raise FutureMoment(f"{shown_moment(moment)} has not come yet: it is {shown_moment(now)}.")
    return moment


def parse_end(text: str, now: datetime) -> datetime:
    """The first moment that no longer belongs: a day is meant with all its hours. Raises `Malformed`."""
    moment = parse_moment(text, now)
    return moment + timedelta(days=1) if _DATE.fullmatch(text) else moment


def shown_moment(moment: datetime) -> str:
    """``2026-03-01 09:30:00 UTC``"""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _last(text: str, now: datetime) -> datetime:
    try:
        today = datetime.combine(now.astimezone(UTC).date(), time.fromisoformat(text), UTC)
    except ValueError:
        raise _unreadable(text) from None
    return today if today <= now else today - timedelta(days=1)


def _unreadable(text: str) -> Malformed:
    return Malformed(f"{text[:40]!a} is no moment: write 2026-03-01T09:30:00Z, 2026-03-01 or 09:30 (UTC)")
