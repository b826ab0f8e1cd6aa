"""An upstream that does not wait: it sends each event at its own moment, however long the one before it took.

    python -m tests.bench.producer PLAN RATE     with the URL of Redis on standard input

PLAN holds the fields of one event in each line, as JSON; line n is due n / RATE seconds after the start. One that
cannot be sent in time is sent as soon as it can be, and its latency counts from the moment it was due.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis
from redis.typing import EncodableT, FieldT

from worker.stream import STREAM

_BEFORE_S = 0.1  # between getting ready and the first event


def produce(client: redis.Redis, events: Sequence[Mapping[FieldT, EncodableT]], start: float, rate: float) -> float:
    """Sends every event when it is due, and all that are due at once; returns how many seconds the latest was late."""
    sent, latest, clock = 0, 0.0, threading.Event()
    while sent < len(events):
        now = time.time()
        due = min(math.floor((now - start) * rate) + 1, len(events))
        if due <= sent:
            clock.wait(start + sent / rate - now)
            continue
        latest = max(latest, now - start - sent / rate)
        with client.pipeline(transaction=False) as pipeline:
            for event in events[sent:due]:
                pipeline.xadd(STREAM, dict(event))
            pipeline.execute()
        sent = due
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
