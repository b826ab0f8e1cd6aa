"""One lane of the intake: a connection of its own to the ledger, on which it posts one batch after the other.

The same lane of several intakes has the same accounts. Two large batches of it that met in the middle would wait for
each other's rows one by one and read each of them anew: a second intake would cost more than it brings. So a large
batch reserves its lane over all intakes, and waits for that before it begins. Where intakes differ in the number of
their lanes, the locks of the accounts keep everything right, as they do for everybody else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from typing import Final

import psycopg
import structlog

from jobs.ledger.database import Connection, open_connection
from jobs.spend import locked_accounts, prepare_connection
from worker.batch import Batch, LaneTaken, Posted, post_batch
from worker.stream import SpendStream, id_order

log = structlog.get_logger()

LOCK_TIMEOUT_MS: Final = 1_000
IDS_SHOWN_MAX: Final = 20
UNRESERVED_MAX: Final = 250  # so few events seldom meet those of another intake, and one statement more would cost them


class AccountsLocked(Exception):
    """Another transaction keeps these accounts locked, or none, and another intake the lane: nothing was posted."""

    def __init__(self, accounts: Set[str]) -> None:
        super().__init__(f"{len(accounts)} accounts are locked")
        self.accounts = accounts


class Ledger:
    """A connection that is opened when it is needed and dropped when it failed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """An open connection. Raises DatabaseUnavailable."""
        if self._connection is None or self._connection.closed:
            self._connection = open_connection(self._url, application="refill intake")
            prepare_connection(self._connection, LOCK_TIMEOUT_MS)
        return self._connection

    def close(self) -> None:
        """Drops the connection, whatever state it is in."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Lane:
    """Posts batches and acknowledges each when it is committed. Used by one thread at a time."""

    def __init__(self, ledger: Ledger, stream: SpendStream) -> None:
        self.ledger = ledger
        self._stream = stream

    def post(self, batch: Batch) -> None:
        """When it returns, the ledger has the batch and the stream is done with it.

        Raises AccountsLocked, `psycopg.Error`, DatabaseUnavailable and `redis.RedisError`. The batch is pending then
        and can be posted again: what the ledger has of it already is not posted twice.
        """
        began = time.monotonic()
        try:
            posted = self._post(batch)
        except psycopg.Error:
            self.ledger.close()
            raise
        stream_ids = batch.stream_ids
        self._stream.acknowledge(stream_ids)
        tell(batch, posted, stream_ids, began)

    def _post(self, batch: Batch) -> Posted:
        connection = self.ledger.connection()
        reserved = batch.lanes if batch.events > UNRESERVED_MAX else ()
        try:
            return post_batch(connection, batch.readable, batch.malformed, reserved)
        except LaneTaken as taken:
            raise AccountsLocked(frozenset()) from taken
        except psycopg.errors.LockNotAvailable as error:
            raise AccountsLocked(locked_accounts(connection, {row.event.account for row in batch.readable})) from error


def tell(batch: Batch, posted: Posted, stream_ids: Sequence[bytes], began: float) -> None:
    """One line for the batch, and one for each outcome that was a refusal, with the first ids: upstream asks for those.

    All of them are in `refill.spend_outcome`; a line each would be a flood just when something is wrong.
    """
    first, *_, last = sorted([*stream_ids[:1], *stream_ids[-1:]], key=id_order) or [b"", b""]
    log.info(
        "spend.batch_posted",
        count=batch.events,
        **posted.counts,
        put_aside=batch.put_aside,
        quarantined=len(posted.quarantined),
        first_stream_id=first.decode(),
        last_stream_id=last.decode(),
        duration_ms=round((time.monotonic() - began) * 1000),
    )
    for outcome, event_ids in posted.refused.items():
        log.info("spend.events_refused", code=outcome, count=len(event_ids), event_ids=event_ids[:IDS_SHOWN_MAX])
    for row in posted.quarantined[:IDS_SHOWN_MAX]:
        log.warning("spend.event_quarantined", stream_id=row.stream_id, code=row.reason, detail=row.detail)
