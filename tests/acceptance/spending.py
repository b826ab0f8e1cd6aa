"""A ledger with accounts and a stream in front of it, for tests of a real `refill intake` between the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
import redis
from redis.typing import EncodableT, FieldT

from jobs.audit import audit
from jobs.ledger.database import connect
from tests.support.processes import Processes, Running
from tests.support.seed import grant, load_examples, open_account
from tests.support.waiting import eventually
from worker.stream import STREAM

Fields = Mapping[FieldT, EncodableT]


class Spending:
    """Sends events as an upstream does and looks at what became of them as an upstream can."""

    def __init__(self, processes: Processes, database_url: str, redis_url: str) -> None:
        self._processes = processes
        self.database_url = database_url
        self.redis_url = redis_url
        self.stream: redis.Redis = redis.Redis.from_url(redis_url, protocol=2)

    def intake(self, **settings: str) -> Running:
        """A real intake that has begun to read."""
        environment = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "REFILL_LOG_FORMAT": "json",
            "REFILL_INTAKE_CLAIM_IDLE_S": "1",
        }
        running = self._processes.refill("intake", environment=environment | settings)
        running.wait_for_event("intake.started")
        return running

    def accounts(self, *names: str, credit: int = 1_000_000) -> None:
        """Accounts of the program points with credit."""
        with connect(self.database_url) as connection:
            load_examples(connection)
            for name in names:
                grant(connection, open_account(connection, name), credit)

    def send(self, *events: Fields) -> list[str]:
        """Adds entries to the stream; their stream ids."""
        with self.stream.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.xadd(STREAM, dict(event))
            return [stream_id.decode() for stream_id in pipeline.execute()]

    def rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    def outcomes(self) -> dict[str, str]:
        """The outcome of each event that the ledger knows."""
        return dict(self.rows("select event_id, outcome from refill.spend_outcome"))

    def quarantined(self) -> dict[str, str]:
        """The reason of each entry in quarantine, by stream id."""
        return dict(self.rows("select stream_id, reason from refill.quarantine"))

    def balance(self, account: str) -> int:
        """What an account has left."""
        return int(self.rows("select balance from refill.balance where account = %s", account)[0][0])

    def settled(self, *event_ids: str) -> None:
        """Returns when the ledger knows all of these events."""
        eventually(lambda: set(event_ids) <= self.outcomes().keys(), timeout=60)

    def drained(self) -> None:
        """Returns when everything in the stream was delivered and acknowledged."""
        eventually(self._is_drained, timeout=60)

    def pending(self) -> int:
        """How many entries are delivered and not acknowledged."""
        groups: Any = self.stream.xinfo_groups(STREAM)
        return sum(int(group["pending"]) for group in groups)

    def prove(self) -> None:
        """The books are right."""
        with connect(self.database_url) as connection:
            assert audit(connection) == []

    def _is_drained(self) -> bool:
        groups: Any = self.stream.xinfo_groups(STREAM)
        last: Any = self.stream.xinfo_stream(STREAM)
        return [(group["pending"], group["last-delivered-id"]) for group in groups] == [(0, last["last-generated-id"])]


def event(event_id: str, account: str = "camp", amount: int = 1, **more: str | int) -> Fields:
    """The fields of a good event."""
    fields: dict[FieldT, EncodableT] = {"id": event_id, "account": account, "amount": amount}
    fields.update(more)
    return fields


def numbered(count: int, accounts: Sequence[str], prefix: str = "e") -> list[Fields]:
    """Good events of 1 credit each, in turn over the accounts."""
    return [event(f"{prefix}-{number}", accounts[number % len(accounts)]) for number in range(count)]
