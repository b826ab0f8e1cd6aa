"""Moments and days as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobs.errors import Malformed
from worker.cli.moments import FutureMoment, parse_end, parse_moment, parse_past

NOW = datetime(2026, 3, 10, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T09:30:00Z", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01 09:30", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01 09:30:15 UTC", datetime(2026, 3, 1, 9, 30, 15, tzinfo=UTC)),
        ("2026-03-01T09:30:00.250000+11:00", datetime(2026, 2, 28, 22, 30, 0, 250_000, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("07:59", datetime(2026, 3, 10, 7, 59, tzinfo=UTC)),
        ("08:00:01", datetime(2026, 3, 9, 8, 0, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_utc_unless_it_says_otherwise(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-02-30", "2026-3-1", "25:00", "0001-01-01T00:00:00+14:00", "9999-12-31", "\uff12026-03-01"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="is no moment"):
        parse_moment(text, NOW)


def test_what_has_not_come_yet_is_no_past() -> None:
    assert parse_past("2026-03-10T08:00:00Z", NOW) == NOW
    with pytest.raises(FutureMoment, match="2026-03-10 08:00:01 UTC has not come yet"):
        parse_past("2026-03-10T08:00:01Z", NOW)


def test_a_day_that_ends_a_period_belongs_to_it() -> None:
    assert parse_end("2026-03-01", NOW) == datetime(2026, 3, 2, tzinfo=UTC)
    assert parse_end("2026-03-01 12:00", NOW) == datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=12)
