"""APScheduler as the clock of the leading scheduler: it only claims slots and sends pokes; workers run the jobs.

What was found by running APScheduler 3, and what follows from it here: a shared job store runs jobs twice, and
forgets a job whose function was renamed: jobs lie in memory and come from code. The default grace for a late run is
one second: here a late run is run, once. Local time has an hour twice in autumn: UTC. An exception inside a job
store ends its thread while its state still says "running": `check` looks at the thread, and at a tick that the
thread itself must bring about.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.jobstores.base import BaseJobStore
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from config.schedule import Job
from jobs.errors import RefillError

TICK_S: Final = 1
SILENT_S_MAX: Final = 20.0
_THREAD_NAME: Final = "APScheduler"  # the only way to its thread that is not private; there is one at a time


class SchedulerStalled(RefillError):
    """The scheduling thread died or is stuck; the process ends, so that its supervisor starts it anew."""

    code = "scheduler_stalled"


class Timetable:
    """Calls ``trigger`` for each job at once and then in the middle of each of its slots, until `stop`."""

    def __init__(
        self,
        jobs: Iterable[Job],
        trigger: Callable[[Job], None],
        until_middle: Callable[[Job], timedelta],
        store: BaseJobStore | None = None,
        silent_s_max: float = SILENT_S_MAX,
    ) -> None:
        """``until_middle`` says how long it is to the middle of a job's slot, by the clock that slots are told by."""
        self._jobs = tuple(jobs)
        self._trigger = trigger
        self._until_middle = until_middle
        self._silent_s_max = silent_s_max
        self._ticked_at = time.monotonic()
        self._scheduler = BackgroundScheduler(
            jobstores={"default": store or MemoryJobStore()},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
            daemon=True,
        )

    def start(self) -> None:
        """Begins: every job runs now, because nobody may have led for a while."""
        now = datetime.now(UTC)
        self._scheduler.add_job(self._tick, IntervalTrigger(seconds=TICK_S, timezone=UTC))
        for job in self._jobs:
            rhythm = IntervalTrigger(seconds=job.interval_s, start_date=now + self._until_middle(job), timezone=UTC)
            self._scheduler.add_job(self._trigger, rhythm, args=[job], id=job.name, next_run_time=now)
        self._ticked_at = time.monotonic()
        self._scheduler.start()

    def stop(self) -> None:
        """Triggers nothing from here on; does not wait for a trigger that is under way."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def check(self) -> None:
        """Raises SchedulerStalled where the scheduling thread is dead or has not ticked for too long."""
        silent_s = time.monotonic() - self._ticked_at
        if silent_s > self._silent_s_max:
            raise SchedulerStalled(f"The scheduling thread has not ticked for {silent_s:.0f} s.")
        if not any(thread.name == _THREAD_NAME for thread in threading.enumerate()):
            raise SchedulerStalled("The scheduling thread is dead.")

    def _tick(self) -> None:
        self._ticked_at = time.monotonic()
