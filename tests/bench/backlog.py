"""Spend events that wait in the stream before anybody reads them, and real intakes that drain it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis

from tests.bench.cores import Cores
from tests.bench.ground import Ground, open_stream
from tests.bench.truth import Witness
from tests.support.processes import Processes, Running
from tests.support.waiting import eventually
from worker.stream import FIRST, GROUP, STREAM

_KEPT = "bench:backlog"  # a copy of the stream as it was before anybody read it
_CHUNK = 5_000
_PATIENCE_S = 300.0


class Event(NamedTuple):
    """One spend, as upstream states it."""

    event_id: str
    account: str
    amount: int


class Drained(NamedTuple):
    """How long it took, from the first event that an intake was given to the last one that is acknowledged, and what
    the processors did meanwhile."""

    seconds: float
    busy: str


class Backlog:
    """Events in a Redis that holds nothing else. They can be drained again and again."""

    def __init__(self, redis_url: str, events: Sequence[Event]) -> None:
        self.events = events
        self.credits = sum(event.amount for event in events)
        self._redis_url = redis_url
        with open_stream(redis_url) as client:
            client.flushall()
            send(client, events, _KEPT)

    def shown_to(self, witness: Witness) -> Witness:
        """The witness, which has seen every event in its order."""
        for event in self.events:
            witness.saw(*event)
        return witness

    def lay(self, client: redis.Redis) -> None:
        """Puts all events into the stream, new, with a group that has read none, whatever was there before."""
        for key in client.scan_iter():
            if key != _KEPT.encode():
                client.delete(key)
        client.copy(_KEPT, STREAM)
        client.xgroup_create(STREAM, GROUP, FIRST)

    def drain(self, place: Ground, database_url: str, intakes: int) -> Drained:
        """Lays the events and has so many intakes post them to the ledger."""
        processes = Processes()
        environment = {"DATABASE_URL": database_url, "REDIS_URL": self._redis_url, "REFILL_LOG_FORMAT": "json"}
        with open_stream(self._redis_url) as client:
            self.lay(client)
            try:
                started = [processes.refill("intake", environment=environment) for _ in range(intakes)]
                cores = Cores(place, {"intake": [running.pid for running in started]})
                _until(lambda: _group(client)["last-delivered-id"] != b"0-0", started)
                cores.begin()
                _until(lambda: is_drained(client), started)
                return Drained(cores.seconds, cores.in_words(len(self.events)))
            finally:
                processes.close()


def send(client: redis.Redis, events: Sequence[Event], stream: str = STREAM) -> None:
    """Adds the events to the stream, in their order."""
    for start in range(0, len(events), _CHUNK):
        with client.pipeline(transaction=False) as pipeline:
            for event_id, account, amount in events[start : start + _CHUNK]:
                pipeline.xadd(stream, {"id": event_id, "account": account, "amount": amount})
            pipeline.execute()


def is_drained(client: redis.Redis) -> bool:
    """Whether everything in the stream was given to somebody and is acknowledged."""
    group, stream = _group(client), client.xinfo_stream(STREAM)
    last: Any = stream
    return group["pending"] == 0 and bool(group["last-delivered-id"] == last["last-generated-id"])


def _until(fact: Callable[[], bool], started: Sequence[Running]) -> None:
    try:
        eventually(fact, _PATIENCE_S)
    except AssertionError as late:
        raise AssertionError("\n".join(line for running in started for line in running.lines[-3:])) from late


def _group(client: redis.Redis) -> dict[str, Any]:
    groups: Any = client.xinfo_groups(STREAM)
    found: dict[str, Any] = groups[0]
    return found
