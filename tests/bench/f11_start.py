"""F11: from `refill up` on an empty directory to ready: cluster made, schema made, programs loaded, processes at work.

    python -m tests.bench.f11_start [--size small|full]

Ready is when it says `up.ready`. That it is true is proved after each start: an event on the stream gets its outcome,
and the books audit clean.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from dotenv import dotenv_values

from jobs.ledger.database import connect, fetch_one
from tests.bench.backlog import Event, send
from tests.bench.figures import RUNS, Figure, Target
from tests.bench.ground import open_stream
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.truth import outcomes, prove
from tests.support.processes import Processes, Running
from tests.support.waiting import eventually

TARGETS = (Target("<", 5),)

_EXAMPLES = 3
_PATIENCE_S = 60.0
_STEPS = (
    ("process.started", "sandbox", "refill runs"),
    ("server.initialised", "", "cluster made"),
    ("process.started", "release", "servers answer"),
    ("process.started", "programs", "schema made"),
    ("process.started", "intake", "programs loaded"),
    ("up.ready", "", "all at work"),
)


def measure(size: Size) -> list[Figure]:
    """The same at each size."""
    runs = [_start() for _ in range(RUNS)]
    _, steps = sorted(runs)[RUNS // 2]
    return [Figure("refill up, from nothing to ready", "s", [seconds for seconds, _ in runs], TARGETS, bound=steps)]


def _start() -> tuple[float, str]:
    """Seconds to ready, and when each step was done."""
    processes = Processes()
    with tempfile.TemporaryDirectory(prefix="refill-bench-", ignore_cleanup_errors=True) as directory:
        data = Path(directory) / "data"
        try:
            began, at = time.monotonic(), datetime.now(UTC)
            running = processes.refill("up", "--data", data, environment={"REFILL_LOG_FORMAT": "json"})
            running.wait_for_event("up.ready", timeout=_PATIENCE_S)
            seconds = time.monotonic() - began
            _prove(data)
            assert running.stop() == 0, running.output
        finally:
            processes.close()
        return seconds, _steps(running, at)


def _prove(data: Path) -> None:
    """It takes spend, and its books are right. Raises AssertionError."""
    given = dotenv_values(data / "refill.env")
    url, redis_url = str(given["DATABASE_URL"]), str(given["REDIS_URL"])
    with connect(url) as connection:
        assert fetch_one(connection, "select count(*) from refill.program")[0] == _EXAMPLES
    with open_stream(redis_url) as client:
        send(client, [Event("first", "nobody", 1)])
    eventually(lambda: outcomes(url) == {"unknown_account": (1, 1)}, _PATIENCE_S)
    prove(url, held=0)


def _steps(running: Running, began: datetime) -> str:
    """`refill runs 0.6 s, cluster made 1.4 s, ...`: how long after the beginning each was so."""
    said = []
    for name, process, step in _STEPS:
        event = next(event for event in running.events(name) if event.get("name", "") == process)
        said.append(f"{step} {(datetime.fromisoformat(event['timestamp']) - began).total_seconds():.2f} s")
    return ", ".join(said)


if __name__ == "__main__":
    run_program("f11_start", __doc__, measure)
