"""F10: what memory the processes take while a backlog of a million events is drained, and while Postgres stands still.

    python -m tests.bench.f10_memory [--size small|full]

One intake drains, a scheduler and a worker are there and have little to do. In the middle Postgres stops answering the
intake and the stream grows meanwhile: the process must not. One run: memory, unlike time, is not a matter of luck.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from jobs.ledger.database import connect
from tests.bench.backlog import Backlog, Event, is_drained, send
from tests.bench.f1_drain import uniform
from tests.bench.figures import Figure, Target
from tests.bench.ground import Ground, ground, open_stream
from tests.bench.memory import Memory, growth
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.truth import Witness, outcomes, prove, some_accounts
from tests.support.processes import Processes, Running
from tests.support.waiting import eventually

PEAK = (Target("<", 120),)
GROWTH = (Target("<=", 10),)

_PROCESSES = ("intake", "scheduler", "worker")
_PATIENCE_S = 300.0


def measure(size: Size) -> list[Figure]:
    """Peaks of the three, and by how much the intake grew from early to late and while Postgres stood still."""
    waiting = size.choose(full=1_000_000, small=100_000)
    events = uniform(waiting + waiting // 5, size.accounts)
    with ground(size.accounts) as place:
        url = place.ledger("memory")
        witness = Witness(url, some_accounts(size.accounts))
        drained = _drain(place, url, events[:waiting], events[waiting:])
        _prove(place, url, witness, events)
    intake = drained.memory.between("intake", drained.began, drained.ended)
    still = drained.memory.between("intake", *drained.stood_still)
    grown = f"intake, grown while Postgres stands still and {waiting // 5:,} more arrive"
    return [
        *(
            Figure(f"{name}, peak while {waiting:,} drain", "MB", [drained.memory.peak(name)], PEAK)
            for name in _PROCESSES
        ),
        Figure("intake, grown from early to late", "MB", [growth(intake)], GROWTH),
        Figure(grown, "MB", [max(still) - still[0]], GROWTH),
    ]


class _Drained(NamedTuple):
    """What was seen, and when, by the monotonic clock."""

    memory: Memory
    began: float
    stood_still: tuple[float, float]
    ended: float


def _drain(place: Ground, url: str, waiting: Sequence[Event], arriving: Sequence[Event]) -> _Drained:
    backlog = Backlog(place.redis_url, waiting)
    with open_stream(place.redis_url) as client:
        backlog.lay(client)
        with _started(place, url) as started:
            memory = Memory({name: running.pid for name, running in started.items()})
            with memory:
                _wait_for(url, waiting[0])
                began = time.monotonic()
                _wait_for(url, waiting[len(waiting) // 3])
                with _postgres_standing_still(url):
                    posted, since = _posted(url), time.monotonic()
                    send(client, arriving)
                    until = time.monotonic()
                    assert _posted(url) == posted, "Postgres did not stand still"
                eventually(lambda: is_drained(client), _PATIENCE_S)
                return _Drained(memory, began, (since, until), time.monotonic())


@contextmanager
def _started(place: Ground, url: str) -> Iterator[Mapping[str, Running]]:
    processes = Processes()
    with tempfile.TemporaryDirectory(prefix="refill-bench-") as mails:
        environment = {
            "DATABASE_URL": url,
            "REDIS_URL": place.redis_url,
            "STRIPE_API_KEY": "sk_test_of_nobody",
            "MAIL_DIR": mails,
            "REFILL_LOG_FORMAT": "json",
        }
        try:
            yield {name: processes.refill(name, environment=environment) for name in _PROCESSES}
        finally:
            processes.close()


@contextmanager
def _postgres_standing_still(url: str) -> Iterator[None]:
    """The sessions of the intake stand still, as those of a server whose disk hangs would."""
    with connect(url) as connection:
        pids = [
            pid
            for (pid,) in connection.execute(
                "select pid from pg_stat_activity where application_name like 'refill intake%'"
            ).fetchall()
        ]
    assert pids, "no intake has a session"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _wait_for(url: str, event: Event) -> None:
    """Returns when the ledger has the event."""
    with connect(url) as connection:
        eventually(
            lambda: connection.execute(
                "select 1 from refill.spend_event where event_id = %s", (event.event_id,)
            ).fetchone(),
            _PATIENCE_S,
        )


def _posted(url: str) -> int:
    """Events in the ledger by now."""
    return outcomes(url).get("accepted", (0, 0))[0]


def _prove(place: Ground, url: str, witness: Witness, events: Sequence[Event]) -> None:
    """Every event was posted once, in the order of arrival. Raises AssertionError."""
    spent = sum(event.amount for event in events)
    assert outcomes(url) == {"accepted": (len(events), spent)}, outcomes(url)
    for event in events:
        witness.saw(*event)
    witness.testify(in_order=True)
    prove(url, place.held - spent)


if __name__ == "__main__":
    run_program("f10_memory", __doc__, measure)
