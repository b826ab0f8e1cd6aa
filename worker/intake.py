"""The intake: spend events from the Redis stream into the ledger, in batches.

    read -> post in one transaction -> acknowledge

Dying between any two of these loses nothing: an entry that is not acknowledged stays pending, is posted again by this
process or another, and the ledger gives the first outcome again. So does a lost answer, of Redis or of Postgres. That
is why every failure has the same cure: wait a little, read what is pending, go on.

An account that somebody else keeps locked, an upstream in a long transaction of its own, holds up its own events only:
after LOCK_TIMEOUT_MS they are put aside, pending and in their order, until the account is free.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence, Set
from typing import Final

import psycopg
import redis
import structlog

from config.settings import Settings
from jobs.errors import DatabaseUnavailable
from jobs.ledger.database import Connection, open_connection
from jobs.spend import locked_accounts, prepare_connection
from worker.batch import Posted, Readable, post_batch, sort_out
from worker.outage import Outage
from worker.stopping import StopRequest
from worker.stream import FIRST, Delivery, Entry, SpendStream, consumer_name, is_group_missing, open_redis
from worker.trim import trim_stream

log = structlog.get_logger()

BLOCK_MS_MAX: Final = 500  # the longest that a request to stop waits for Redis
LOCK_TIMEOUT_MS: Final = 3_000
HELD_LOOK_S: Final = 1.0
IDS_SHOWN_MAX: Final = 20
IDLE_CONSUMER_S: Final = 600


class Ledger:
    """The connection of the intake, opened when it is needed and dropped when it failed."""

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


class Intake:
    """One consumer of the stream. `run` until told to stop; `step` does one batch."""

    def __init__(self, settings: Settings) -> None:
        self._batch_max = settings.intake_batch_max
        self._block_ms = min(settings.intake_block_ms, BLOCK_MS_MAX)
        self._claim_idle_s = settings.intake_claim_idle_s
        self._redis = open_redis(settings.needed("redis_url"))
        self._stream = SpendStream(self._redis, consumer_name())
        self._ledger = Ledger(settings.needed("database_url"))
        self._redis_outage = Outage("redis")
        self._ledger_outage = Outage("postgres")
        self._pending_after: bytes | None = FIRST  # where reading of our own pending entries goes on; None: all read
        self._held: set[str] = set()  # accounts whose events are put aside
        self._ignored: set[bytes] = set()  # fields that were named in the log once
        self._look_held_at = 0.0
        self._tend_at = 0.0

    def run(self, stop: StopRequest) -> None:
        """Posts batches until it is asked to stop. Outlives the loss of Redis and of Postgres."""
        log.info("intake.started", consumer=self._stream.consumer)
        while not stop.is_set:
            wait_s = self._step_or_wait()
            if wait_s:
                stop.wait(wait_s)
        self._ledger.close()
        self._redis.close()
        log.info("intake.stopped", consumer=self._stream.consumer)

    def _step_or_wait(self) -> float:
        """One step; returns how long to wait before the next one, which is 0 unless something failed."""
        try:
            self.step()
        except redis.ResponseError as error:
            self._pending_after = FIRST
            return self._restore_group() if is_group_missing(error) else self._redis_outage.note(error)
        except redis.RedisError as error:
            self._pending_after = FIRST
            return self._redis_outage.note(error)
        except (psycopg.Error, DatabaseUnavailable) as error:
            self._pending_after = FIRST
            self._ledger.close()
            return self._ledger_outage.note(error)
        return 0.0

    def step(self) -> int:
        """Posts and acknowledges at most one batch, waiting a moment for it, and returns how many events it had.

        Raises `redis.RedisError`, `psycopg.Error` and DatabaseUnavailable; nothing is lost by calling it again.
        """
        connection = self._ledger.connection()
        self._tend()
        self._look_for_freed_accounts(connection)
        is_pending = self._pending_after is not None
        delivery = self._read()
        self._redis_outage.over()
        if not delivery.entries and not delivery.lost:
            self._pending_after = None if is_pending else self._pending_after
            return 0
        if is_pending:
            self._pending_after = delivery.last_id
        self._take(connection, delivery)
        self._ledger_outage.over()
        return len(delivery.entries)

    def _read(self) -> Delivery:
        if self._pending_after is not None:
            return self._stream.read_pending(self._batch_max, self._pending_after)
        return self._stream.read_new(self._batch_max, self._block_ms)

    def _take(self, connection: Connection, delivery: Delivery) -> None:
        """Posts what was delivered and acknowledges what is in the ledger or lost."""
        began = time.monotonic()
        batch = sort_out(delivery.entries)
        self._say_ignored(batch.unknown_fields)
        ready = [row for row in batch.readable if row.event.account not in self._held] if self._held else batch.readable
        try:
            posted = post_batch(connection, ready, batch.malformed)
        except psycopg.errors.LockNotAvailable:
            self._hold(locked_accounts(connection, {row.event.account for row in ready}))
            self._pending_after = FIRST
            return
        aside = _aside(batch.readable, ready)
        self._stream.acknowledge(
            [entry.stream_id for entry in delivery.entries if entry.stream_id not in aside] + [*delivery.lost]
        )
        _tell(delivery.entries, posted, len(aside), began)
        if delivery.lost:
            log.error("spend.entries_lost", count=len(delivery.lost), stream_ids=_shown(delivery.lost))

    def _hold(self, accounts: Collection[str]) -> None:
        self._held |= set(accounts)
        self._look_held_at = time.monotonic() + HELD_LOOK_S
        if accounts:
            log.warning("spend.accounts_locked", count=len(accounts), accounts=sorted(accounts)[:IDS_SHOWN_MAX])

    def _look_for_freed_accounts(self, connection: Connection) -> None:
        """Reads what was put aside once more when one of the accounts is free."""
        if not self._held or time.monotonic() < self._look_held_at:
            return
        self._look_held_at = time.monotonic() + HELD_LOOK_S
        still_locked = set(locked_accounts(connection, self._held))
        freed = sorted(self._held - still_locked)
        if freed:
            self._held, self._pending_after = still_locked, FIRST
            log.info("spend.accounts_freed", count=len(freed), accounts=freed[:IDS_SHOWN_MAX])

    def _tend(self) -> None:
        """Now and then: takes over the entries of silent consumers, removes those that are done, trims the stream."""
        if time.monotonic() < self._tend_at:
            return
        self._tend_at = time.monotonic() + min(self._claim_idle_s / 3, 5.0)
        if self._stream.ensure_group():
            log.warning("intake.group_created")
        claimed = self._stream.claim(self._claim_idle_s, self._batch_max)
        if claimed:
            self._pending_after = FIRST
            self._tend_at = 0.0
            log.info("spend.entries_claimed", count=claimed, consumer=self._stream.consumer)
        for consumer in self._stream.remove_idle_consumers(max(IDLE_CONSUMER_S, self._claim_idle_s)):
            log.info("intake.consumer_removed", consumer=consumer)
        trimmed = trim_stream(self._redis)
        if trimmed.is_held_back:
            log.warning("stream.held_back", length=trimmed.length, needed_from=trimmed.needed_from)

    def _restore_group(self) -> float:
        """Redis was emptied: the group begins at the first entry again. Returns how long to wait."""
        try:
            self._stream.ensure_group()
        except redis.RedisError as error:
            return self._redis_outage.note(error)
        log.warning("intake.group_created")
        return 0.0

    def _say_ignored(self, names: Set[bytes]) -> None:
        for name in sorted(names - self._ignored)[: IDS_SHOWN_MAX - len(self._ignored)]:
            self._ignored.add(name)
            log.warning("spend.field_ignored", field=name.decode(errors="backslashreplace")[:64])


def _aside(readable: Sequence[Readable], ready: Sequence[Readable]) -> set[bytes]:
    if len(ready) == len(readable):
        return set()
    return {row.entry.stream_id for row in readable} - {row.entry.stream_id for row in ready}


def _tell(entries: Sequence[Entry], posted: Posted, aside: int, began: float) -> None:
    """One line for the batch, and one for each outcome that was a refusal, with the first ids: upstream asks for those.

    All of them are in `refill.spend_outcome`; a line each would be a flood just when something is wrong.
    """
    if not entries:
        return
    log.info(
        "spend.batch_posted",
        count=len(entries) - aside,
        **posted.counts,
        put_aside=aside,
        quarantined=len(posted.quarantined),
        first_stream_id=entries[0].stream_id.decode(),
        last_stream_id=entries[-1].stream_id.decode(),
        duration_ms=round((time.monotonic() - began) * 1000),
    )
    for outcome, event_ids in posted.refused.items():
        log.info("spend.events_refused", code=outcome, count=len(event_ids), event_ids=event_ids[:IDS_SHOWN_MAX])
    for row in posted.quarantined[:IDS_SHOWN_MAX]:
        log.warning("spend.event_quarantined", stream_id=row.stream_id, code=row.reason, detail=row.detail)


def _shown(stream_ids: Sequence[bytes]) -> list[str]:
    return [stream_id.decode() for stream_id in stream_ids[:IDS_SHOWN_MAX]]
