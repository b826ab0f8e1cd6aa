"""``python -m tests.support.run_up DATA PROCFILE [STOP_TIMEOUT_S]``: `refill up` with another Procfile.

Its processes are small commands, so that a test sees the supervisor alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import structlog

from config.settings import SettingsError, load_settings
from jobs.errors import RefillError
from worker.logs import configure
from worker.up import up

log = structlog.get_logger()


def main(data: Path, procfile: Path, stop_timeout_s: float = 20.0) -> int:
    """The exit status, as the command line gives it."""
    try:
        settings = load_settings()
        configure("up", settings.log_format, settings.log_level)
        return up(settings, data, demo=False, procfile=procfile, stop_timeout_s=stop_timeout_s)
    except (RefillError, SettingsError) as error:
        log.error("command.failed", code=error.code, error=str(error))
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:])))
