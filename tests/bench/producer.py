"""An upstream that does not wait: it sends each event at its own moment, however long the one before it took.

    python -m tests.bench.producer PLAN RATE     with the URL of Redis on standard input

PLAN holds the fields of one event in each line, as JSON; line n is due n / RATE seconds after the start. One that
cannot be sent in time is sent as soon as it can be, and its latency counts from the moment it was due.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import redis
from redis.typing import EncodableT, FieldT

from worker.stream import STREAM

_BEFORE_S = 0.1  # between getting ready and the first event


def produce(client: redis.Redis, events: list[dict[FieldT, EncodableT]], start: float, rate: float) -> float:
    """Sends every event when it is due; returns how many seconds the latest of them was late."""
    latest, clock = 0.0, threading.Event()
    for number, event in enumerate(events):
        due = start + number / rate
        if (early := due - time.time()) > 0:
            clock.wait(early)
        latest = max(latest, time.time() - due)
        client.xadd(STREAM, event)
    return latest


def main() -> None:
    """Says, as JSON, when it began and how late it was."""
    plan, rate = Path(sys.argv[1]), float(sys.argv[2])
    events = [json.loads(line) for line in plan.read_text(encoding="utf-8").splitlines()]
    with redis.Redis.from_url(sys.stdin.read().strip(), protocol=2) as client:
        client.ping()
        start = time.time() + _BEFORE_S
        late_s = produce(client, events, start, rate)
    sys.stdout.write(json.dumps({"start": start, "late_s": late_s}) + "\n")


if __name__ == "__main__":
    main()
