"""When a card may be tried again, as a table: what is known of it, and the hold that follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.throttle import CardFacts, Hold, Limits, hold

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LIMITS = Limits(
    cooling_success_s=15 * 60,
    cooling_failure_s=60 * 60,
    attempts_24h_max=8,
    declines_24h_max=3,
    reattempts_30d_max=8,
    breaker_declines=3,
)


def card(**known: object) -> CardFacts:
    return replace(CardFacts("f"), **known)  # type: ignore[arg-type]


def ago(*spans: timedelta) -> tuple[datetime, ...]:
    return tuple(sorted(NOW - span for span in spans))


def hours_ago(*hours: float) -> tuple[datetime, ...]:
    return ago(*(timedelta(hours=hour) for hour in hours))


class Row(NamedTuple):
    says: str
    card: CardFacts
    verdict: str | None
    next_at: datetime | None = None


DECLINED = card(last_failure_at=NOW - 20 * HOUR)
SUCCEEDED_SINCE = card(last_failure_at=NOW - 20 * HOUR, last_success_at=NOW - 19 * HOUR)
EIGHT_REATTEMPTS = ago(*(DAY * n for n in (2, 5, 8, 11, 14, 17, 20, 29)))

TABLE = [
    Row("a card that was never tried is free", card(), None),
    # Cooling: 15 minutes after a success, 60 after a failure; at the very end of it the card is free.
    Row("just charged", card(last_success_at=NOW), "card_cooling", NOW + 15 * MINUTE),
    Row(
        "charged 15 min ago less a second",
        card(last_success_at=NOW - 15 * MINUTE + SECOND),
        "card_cooling",
        NOW + SECOND,
    ),
    Row("charged exactly 15 min ago", card(last_success_at=NOW - 15 * MINUTE), None),
    Row("declined 59 min 59 s ago", card(last_failure_at=NOW - HOUR + SECOND), "card_cooling", NOW + SECOND),
    Row("declined exactly an hour ago", card(last_failure_at=NOW - HOUR), None),
    Row("the issuer asks for a day", card(not_before=NOW + DAY), "card_cooling", NOW + DAY),
    Row("what the issuer asked for is just over", card(not_before=NOW), None),
    # 8 attempts in 24 hours, whatever became of them.
    Row("7 attempts", card(attempts_24h=hours_ago(23, 20, 17, 14, 11, 8, 5)), None),
    Row("8 attempts", card(attempts_24h=hours_ago(23, 20, 17, 14, 11, 8, 5, 2)), "card_attempts", NOW + HOUR),
    Row("the first of 8 falls out now", card(attempts_24h=hours_ago(24, 20, 17, 14, 11, 8, 5, 2)), None),
    Row(
        "9 attempts: two must fall out",
        card(attempts_24h=hours_ago(23, 20, 17, 14, 11, 8, 5, 2, 1)),
        "card_attempts",
        NOW + 4 * HOUR,
    ),
    # 3 declines in 24 hours.
    Row("2 declines", card(declines_24h=hours_ago(10, 5)), None),
    Row("3 declines", card(declines_24h=hours_ago(10, 5, 2)), "card_attempts", NOW + 14 * HOUR),
    # 8 re-attempts in 30 days; only a repeat of a declined payment is a re-attempt.
    Row(
        "8 re-attempts and declined last",
        replace(DECLINED, reattempts_30d=EIGHT_REATTEMPTS),
        "card_attempts",
        NOW + DAY,
    ),
    Row("7 re-attempts and declined last", replace(DECLINED, reattempts_30d=EIGHT_REATTEMPTS[1:]), None),
    Row(
        "8 re-attempts, but the last outcome was a success",
        replace(SUCCEEDED_SINCE, reattempts_30d=EIGHT_REATTEMPTS),
        None,
    ),
    Row("8 re-attempts and nothing known of an outcome", card(reattempts_30d=EIGHT_REATTEMPTS), None),
    # One in flight.
    Row("in flight for a minute", card(in_flight_since=NOW - MINUTE), "card_cooling", NOW + 14 * MINUTE),
    Row(
        "in flight, which decides first: its outcome may lift what else holds",
        card(in_flight_since=NOW, not_before=NOW + DAY),
        "card_cooling",
        NOW + 15 * MINUTE,
    ),
    Row("in flight for longer than the cooling", card(in_flight_since=NOW - HOUR), "card_cooling", None),
    # The longest hold wins, whichever rule it is of.
    Row(
        "cooling ends after the attempts fall out",
        card(last_success_at=NOW, attempts_24h=ago(DAY - MINUTE, *[HOUR] * 7)),
        "card_cooling",
        NOW + 15 * MINUTE,
    ),
    Row(
        "the attempts fall out after the cooling",
        card(last_success_at=NOW, attempts_24h=ago(DAY - HOUR, *[HOUR] * 7)),
        "card_attempts",
        NOW + HOUR,
    ),
    Row(
        "the issuer's wish outlasts the cooling",
        card(last_failure_at=NOW, not_before=NOW + 3 * DAY),
        "card_cooling",
        NOW + 3 * DAY,
    ),
    Row(
        "cooling outlasts the issuer's wish",
        card(last_failure_at=NOW, not_before=NOW + MINUTE),
        "card_cooling",
        NOW + HOUR,
    ),
    # A stop outlives everything, and time does not end it.
    Row("stopped and otherwise free", card(stop="never", stop_reason="lost"), "paused", None),
    Row("stopped and cooling", card(stop="breaker", stop_reason="3 in a row", last_failure_at=NOW), "paused", None),
    Row("stopped and in flight", card(stop="operator", stop_reason="asked", in_flight_since=NOW), "paused", None),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.says)
def test_the_hold_of_a_card(row: Row) -> None:
    held = hold(row.card, LIMITS, NOW)
    found = (None, None) if held is None else (held.verdict, held.next_at)
    assert found == (row.verdict, row.next_at)


@pytest.mark.parametrize("stop", ["never", "operator", "breaker", "needs_customer", "new_details", "declined"])
def test_every_stop_pauses_and_says_why(stop: str) -> None:
    assert hold(card(stop=stop, stop_reason="what the issuer said"), LIMITS, NOW) == Hold(
        "paused", None, "what the issuer said"
    )


def test_limits_that_an_operator_lowered_hold_sooner() -> None:
    lowered = replace(LIMITS, attempts_24h_max=1, cooling_success_s=0)
    assert hold(card(attempts_24h=hours_ago(5), last_success_at=NOW), lowered, NOW) == Hold(
        "card_attempts", NOW + 19 * HOUR, "the card has had 1 attempts in 24 hours"
    )


moments = st.integers(min_value=-40 * 86_400, max_value=15 * 86_400).map(lambda s: NOW + timedelta(seconds=s))
past = st.integers(min_value=1, max_value=86_399).map(lambda s: NOW - timedelta(seconds=s))
times = st.lists(past, max_size=12).map(lambda found: tuple(sorted(found)))
cards = st.builds(
    CardFacts,
    fingerprint=st.just("f"),
    not_before=st.none() | moments,
    last_success_at=st.none() | past,
    last_failure_at=st.none() | past,
    attempts_24h=times,
    declines_24h=times,
    reattempts_30d=times,
)


@given(cards)
def test_a_hold_lasts_until_its_next_time_and_not_longer(known: CardFacts) -> None:
    """Nothing else happening, the card is held a moment before the next time and free at it."""
    held = hold(known, LIMITS, NOW)
    if held is None or held.next_at is None:
        return
    later = at_moment(known, held.next_at)
    assert hold(at_moment(known, held.next_at - SECOND / 2), LIMITS, held.next_at - SECOND / 2) is not None
    assert hold(later, LIMITS, held.next_at) is None


def at_moment(known: CardFacts, now: datetime) -> CardFacts:
    """What would be counted of the same attempts at a later moment."""
    return replace(
        known,
        attempts_24h=tuple(at for at in known.attempts_24h if at > now - DAY),
        declines_24h=tuple(at for at in known.declines_24h if at > now - DAY),
        reattempts_30d=tuple(at for at in known.reattempts_30d if at > now - 30 * DAY),
    )
