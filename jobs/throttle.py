"""When a physical card may be tried again. Pure: what Postgres knows of the card, and the limits, give a hold or none.

Counted per fingerprint over all accounts. The ceilings of the limits are those of the card networks: Visa allows 15
re-attempts of a declined payment in 30 days, Mastercard 10 declines in 24 hours and 35 in 30 days; Stripe advises 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

ATTEMPTS_WINDOW: Final = timedelta(hours=24)
REATTEMPTS_WINDOW: Final = timedelta(days=30)

# Reasons of a hold, by which `verdict` knows what to tell about the card.
SUCCEEDED: Final = "the card was charged a short while ago"
DECLINED: Final = "the card was declined a short while ago"
LATER_TRY: Final = "after its last decline the card is to rest longer"
UNDER_WAY: Final = "an attempt on this card is under way"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows; `config.settings` keeps each below its network's ceiling."""

    cooling_success_s: int
    cooling_failure_s: int
    attempts_24h_max: int
    declines_24h_max: int
    reattempts_30d_max: int
    breaker_declines: int


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What is known of one physical card, over all accounts. Times ascend; a released attempt is not among them."""

    fingerprint: str
    stop: str | None = None
    stop_reason: str | None = None
    not_before: datetime | None = None
    in_flight_since: datetime | None = None
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    attempts_24h: Sequence[datetime] = ()
    declines_24h: Sequence[datetime] = ()
    reattempts_30d: Sequence[datetime] = ()

    @property
    def was_declined(self) -> bool:
        """Whether the next attempt repeats one that was declined."""
        return self.last_failure_at is not None and (
            self.last_success_at is None or self.last_success_at < self.last_failure_at
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """Why the card must not be tried now, and from when it may be; `next_at` None where only a person can tell."""

    verdict: Literal["paused", "card_cooling", "card_attempts"]
    next_at: datetime | None
    reason: str


def hold(card: CardFacts, limits: Limits, now: datetime) -> Hold | None:
    """The hold that lasts longest, or None where the card may be tried now."""
    if card.stop is not None:
        return Hold("paused", None, card.stop_reason or card.stop)
    if card.in_flight_since is not None:
        free_at = card.in_flight_since + timedelta(seconds=limits.cooling_success_s)
        return Hold("card_cooling", free_at if free_at > now else None, UNDER_WAY)
    holds = [*_cooling(card, limits), *_counted(card, limits)]
    return max(
        (h for h in holds if h.next_at is not None and h.next_at > now),
        key=lambda h: h.next_at or now,
        default=None,
    )


def _cooling(card: CardFacts, limits: Limits) -> list[Hold]:
    pauses = [
        (card.last_success_at, limits.cooling_success_s, SUCCEEDED),
        (card.last_failure_at, limits.cooling_failure_s, DECLINED),
        (card.not_before, 0, LATER_TRY),
    ]
    return [Hold("card_cooling", at + timedelta(seconds=s), reason) for at, s, reason in pauses if at is not None]


def _counted(card: CardFacts, limits: Limits) -> list[Hold]:
    windows = [
        (card.attempts_24h, limits.attempts_24h_max, ATTEMPTS_WINDOW, "attempts in 24 hours"),
        (card.declines_24h, limits.declines_24h_max, ATTEMPTS_WINDOW, "declines in 24 hours"),
        (card.reattempts_30d, limits.reattempts_30d_max, REATTEMPTS_WINDOW, "re-attempts in 30 days"),
    ]
    # A repeat of a declined payment is what the third window counts; a first try after a success is not held by it.
    counted = windows if card.was_declined else windows[:2]
    return [
        Hold("card_attempts", times[len(times) - most] + window, f"the card has had {len(times)} {what}")
        for times, most, window, what in counted
        if len(times) >= most
    ]
