"""The scheduled jobs and how often each runs. Data only: `worker/scheduler.py` triggers them, `worker/runs.py` runs
them.

Each sweep is the guarantee behind a poke: what a lost message left undone, the next sweep finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from config.fields import Settings


@dataclass(frozen=True, slots=True)
class Job:
    """One job: its name at `refill run`, how often it runs, and one sentence about it."""

    name: str
    interval_s: int
    sentence: str


def schedule(settings: Settings) -> Mapping[str, Job]:
    """Every job by its name, in the order in which `refill status` shows them."""
    jobs = (
        Job(
            "recharge_sweep",
            settings.sweep_interval_s,
            "Evaluates every account below its trigger whose time has come.",
        ),
        Job("charge_sweep", 15, "Takes every open charge as far as it goes."),
        Job("expiry_sweep", 60, "Books the expiry of dead credit."),
        Job("message_sweep", 15, "Delivers every message that is due."),
        Job("event_publish", 5, "Numbers new events in the order of their commits and writes them to the stream."),
        Job("partitions", 86_400, "Makes the partitions of entries for this month and the next ones."),
        Job("housekeeping", 3_600, "Removes the notes of old job runs."),
    )
    return MappingProxyType({job.name: job for job in jobs})
