"""`refill scheduler`: the process that triggers the sweeps and passes pokes on, where it leads."""

from __future__ import annotations

import os
import sys

import structlog

from config.settings import load_settings
from worker import logs
from worker.cli.parts import example, single
from worker.scheduler import Scheduler
from worker.stopping import StopRequest
from worker.timetable import SchedulerStalled
from worker.workers import check_surroundings

app = single()
log = structlog.get_logger()

_EXIT_STALLED = 1


@app.command("scheduler", epilog=example("refill scheduler"))
def _scheduler() -> None:
    """Trigger the sweeps and pass pokes on to the workers, until stopped. One of many leads; the others stand by."""
    settings = load_settings(require=["database_url", "redis_url", "broker_url"])
    logs.configure("scheduler", settings.log_format, settings.log_level)
    stop = StopRequest()
    stop.listen()
    check_surroundings(settings)
    try:
        Scheduler(settings).run(stop)
    except SchedulerStalled as error:
        log.critical("scheduler.stalled", code=error.code, error=str(error))
        sys.stdout.flush()
        os._exit(_EXIT_STALLED)  # a thread that is stuck would keep an orderly end waiting for ever
