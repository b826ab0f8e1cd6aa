"""The scheduler process. Any number may run on any number of machines; one leads, the others wait to.

    wait for the lock ──► lead: timetable and listener ──► lost, or stopped ──► wait ...
                                     │
                                     └── scheduling thread dead or stuck ──► the process ends, its supervisor
                                     restarts it

A trigger only claims the slot in Postgres and sends a poke. Nothing here runs a job, so nothing here can be slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import psycopg
import structlog

from config.schedule import Job, schedule
from config.settings import Settings
from jobs import slots
from jobs.errors import DatabaseUnavailable
from worker import pokes
from worker.broker import open_broker
from worker.leader import Leadership, process_name
from worker.listener import Listener
from worker.outage import Outage
from worker.pokes import Sender
from worker.pool import open_pool
from worker.stopping import StopRequest
from worker.timetable import SchedulerStalled, Timetable

log = structlog.get_logger()

CHECK_S: Final = 1.0
_CONNECTIONS_MAX: Final = 2


class Scheduler:
    """One candidate. `run` returns when it is asked to stop, and raises SchedulerStalled where it must be
    restarted."""

    def __init__(self, settings: Settings) -> None:
        """Connects to nothing yet. Raises ``SettingsError``."""
        self._url = settings.needed("database_url")
        self._retry_s = settings.leader_retry_s
        self._jobs = tuple(schedule(settings).values())
        self._sender = Sender(open_broker(settings.needed("broker_url")))
        self._pool = open_pool(self._url, _CONNECTIONS_MAX, "refill scheduler")
        self._leadership = Leadership(self._url)
        self._outage = Outage("postgres")
        self._trigger_outage = Outage("postgres")

    def run(self, stop: StopRequest) -> None:
        """Leads whenever it can. Raises SchedulerStalled."""
        log.info("scheduler.started", leader=process_name())
        while not stop.is_set:
            wait_s = self._retry_s if not self._has_won() else self._lead(stop)
            stop.wait(wait_s)
        self.close()
        log.info("scheduler.stopped")

    def close(self) -> None:
        """Gives up its connections, and the lock with them."""
        self._leadership.release()
        self._pool.close()

    def _has_won(self) -> bool:
        try:
            has_won = self._leadership.acquire()
        except (psycopg.Error, DatabaseUnavailable) as error:
            self._leadership.release()
            self._outage.note(error)
            return False
        self._outage.over()
        return has_won

    def _lead(self, stop: StopRequest) -> float:
        """Leads until stopped or until the lock is lost; returns how long to wait then."""
        log.info("scheduler.elected", leader=process_name())
        try:
            with self._leading() as (timetable, listener):
                self._watch(timetable, listener, stop)
        except psycopg.Error as error:
            return self._outage.note(error)
        finally:
            self._leadership.release()
        return 0.0

    def _watch(self, timetable: Timetable, listener: Listener, stop: StopRequest) -> None:
        """Returns when asked to stop or when the lock is lost. Raises SchedulerStalled."""
        while not stop.is_set:
            stop.wait(CHECK_S)
            timetable.check()
            if not listener.is_alive:
                raise SchedulerStalled("The listening thread is dead.")
            if not self._leadership.is_held():
                log.warning("scheduler.leadership_lost", leader=process_name())
                return

    @contextmanager
    def _leading(self) -> Iterator[tuple[Timetable, Listener]]:
        timetable = Timetable(self._jobs, self.trigger, self._until_middle)
        listener = Listener(self._url, self._sender)
        listener.start()
        timetable.start()
        try:
            yield timetable, listener
        finally:
            timetable.stop()
            listener.stop()

    def trigger(self, job: Job) -> None:
        """Claims the slot of this moment and pokes a worker to run the job for it."""
        try:
            with self._pool.connection() as connection:
                slot = slots.claim(connection, job.name, job.interval_s, process_name())
        except psycopg.Error as error:  # the next slot is claimed by whoever can
            self._trigger_outage.note(error)
            return
        self._trigger_outage.over()
        if slot is not None:
            self._sender.send(pokes.run_job(job.name, slot))

    def _until_middle(self, job: Job) -> timedelta:
        with self._pool.connection() as connection:
            return slots.until_middle(connection, job.interval_s)
