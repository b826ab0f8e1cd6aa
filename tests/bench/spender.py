"""An upstream that spends at a steady rate through `refill.spend()`, however long each spend takes.

    python -m tests.bench.spender ACCOUNTS RATE     with the URL of the ledger as the first line of standard input

It goes on until standard input ends, and then says, as JSON, when each spend was due and how long after that it was
committed, both in seconds.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

RATE = 200.0  # spends in a second: far from what the machine could do
_SPEND = "select outcome from refill.spend(%s, 1, %s)"


class Spender:
    """A spender that runs; `stop` ends it."""

    def __init__(self, url: str, accounts: int) -> None:
        command = [sys.executable, "-m", "tests.bench.spender", str(accounts), str(RATE)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(url + "\n")
        self._process.stdin.flush()

    def stop(self) -> list[tuple[float, float]]:
        """When each spend was due, in seconds since 1970, and how many milliseconds later it was committed."""
        said, _ = self._process.communicate()
        assert self._process.returncode == 0, "the spender failed"
        return [(due, latency_s * 1000) for due, latency_s in json.loads(said)]


@contextmanager
def spending(url: str, accounts: int) -> Iterator[list[tuple[float, float]]]:
    """Spends inside the block; what it measured stands in the list at its end."""
    measured: list[tuple[float, float]] = []
    spender = Spender(url, accounts)
    try:
        yield measured
    finally:
        measured += spender.stop()


def _spend(url: str, accounts: int, rate: float, stopped: threading.Event) -> list[tuple[float, float]]:
    draw, measured, run = random.Random(accounts), [], time.time_ns()
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
        start, number = time.time(), 0
        while not stopped.is_set():
            due = start + number / rate
            stopped.wait(max(due - time.time(), 0))
            account = f"account-{draw.randint(1, accounts)}"
            outcome = connection.execute(_SPEND, (account, f"{run}-{number}")).fetchall()
            assert outcome == [("accepted",)], outcome
            measured.append((due, time.time() - due))
            number += 1
    return measured


def _wait_for_the_end(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


def main() -> None:
    """Spends until standard input ends."""
    url, stopped = sys.stdin.readline().strip(), threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(stopped,), daemon=True).start()
    sys.stdout.write(json.dumps(_spend(url, int(sys.argv[1]), float(sys.argv[2]), stopped)))


if __name__ == "__main__":
    main()
