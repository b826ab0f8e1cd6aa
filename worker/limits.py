"""What the operator allows on one physical card, from the settings."""

from __future__ import annotations

from config.settings import Settings
from jobs.throttle import Limits


def limits(settings: Settings) -> Limits:
    """The limits of the throttle; `Settings` keeps each below what the card networks allow."""
    return Limits(
        cooling_success_s=settings.card_cooling_success_s,
        cooling_failure_s=settings.card_cooling_failure_s,
        attempts_24h_max=settings.card_attempts_24h_max,
        declines_24h_max=settings.card_declines_24h_max,
        reattempts_30d_max=settings.card_reattempts_30d_max,
        breaker_declines=settings.card_breaker_declines,
    )
