"""F1: how fast a backlog in the stream becomes committed entries, by real `refill intake` processes.

    python -m tests.bench.f1_drain [--size small|full] [--intakes 1 2]

Accounts are drawn uniformly, which is the hardest: no two events of a batch share a row. Beside it stands the naive
ledger of tests/bench/naive.py, measured in the same run. After each drain the books are proved.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from jobs.ledger.database import connect
from tests.bench.ground import RUNS, SIZES, Figure, Ground, Size, figure, ground, open_stream, prove, report
from tests.bench.naive import CLIENTS, naive_per_second
from tests.support.processes import Processes, Running
from tests.support.waiting import eventually
from worker.stream import FIRST, GROUP, STREAM

_CHUNK = 5_000
_PATIENCE_S = 300.0


def measure(size: Size, intakes: list[int]) -> list[Figure]:
    """The baseline and a figure for each number of intakes."""
    with ground(size.accounts) as place:
        naive = figure(f"naive psycopg, {CLIENTS} clients", [_naive(place, size, run) for run in range(RUNS)])
        drains = [
            figure(
                f"drain, {count} intake{'s' * (count > 1)}", [_drain(place, size, count) for _ in range(RUNS)], naive
            )
            for count in intakes
        ]
    return [naive, *drains]


def _naive(place: Ground, size: Size, run: int) -> float:
    name = f"naive_{run}"
    per_second = naive_per_second(place.ledger(name), size.accounts, size.baseline_s)
    place.drop(name)
    return per_second


def _drain(place: Ground, size: Size, intakes: int) -> float:
    name = f"drain_{time.monotonic_ns()}"
    url = place.ledger(name)
    with open_stream(place.redis_url) as client:
        spent = _backlog(client, size)
        seconds = _time_to_drain(client, url, place.redis_url, intakes)
    _check_outcomes(url, size.events, spent)
    prove(url, size.accounts, spent)
    place.drop(name)
    return size.events / seconds


def _backlog(client: redis.Redis, size: Size) -> int:
    """Fills an empty Redis with events and returns the credits that they spend."""
    client.flushall()
    draw, spent = random.Random(size.events), 0
    for start in range(0, size.events, _CHUNK):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(start, start + _CHUNK):
                amount = draw.randint(1, 100)
                spent += amount
                account = f"account-{draw.randint(1, size.accounts)}"
                pipeline.xadd(STREAM, {"id": f"event-{number:09}", "account": account, "amount": amount})
            pipeline.execute()
    client.xgroup_create(STREAM, GROUP, FIRST)
    return spent


def _time_to_drain(client: redis.Redis, database_url: str, redis_url: str, intakes: int) -> float:
    """Seconds from the first event that an intake was given to the last one that is acknowledged."""
    processes = Processes()
    environment = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "REFILL_LOG_FORMAT": "json"}
    try:
        started = [processes.refill("intake", environment=environment) for _ in range(intakes)]
        _until(lambda: _group(client)["last-delivered-id"] != b"0-0", started)
        began = time.monotonic()
        _until(lambda: _is_drained(client), started)
        return time.monotonic() - began
    finally:
        processes.close()


def _until(fact: Callable[[], bool], started: Sequence[Running]) -> None:
    try:
        eventually(fact, _PATIENCE_S)
    except AssertionError as late:
        raise AssertionError("\n".join(line for running in started for line in running.lines[-3:])) from late


def _is_drained(client: redis.Redis) -> bool:
    group, stream = _group(client), client.xinfo_stream(STREAM)
    last: Any = stream
    return group["pending"] == 0 and bool(group["last-delivered-id"] == last["last-generated-id"])


def _group(client: redis.Redis) -> dict[str, Any]:
    groups: Any = client.xinfo_groups(STREAM)
    found: dict[str, Any] = groups[0]
    return found


def _check_outcomes(url: str, events: int, spent: int) -> None:
    with connect(url) as connection:
        rows = connection.execute(
            "select outcome, count(*), sum(amount) from refill.spend_outcome group by 1"
        ).fetchall()
    assert rows == [("accepted", events, spent)], rows


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--intakes", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    report("f1_drain", arguments.size, measure(SIZES[arguments.size], arguments.intakes))


if __name__ == "__main__":
    main()
