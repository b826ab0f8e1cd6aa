"""The intake: spend events from the Redis stream into the ledger.

    read -> sorted into lanes -> each lane: post in one transaction -> acknowledge

One thread reads and sorts while the lanes (worker/lanes.py) post: an account always has the same lane. Dying between
any two of these loses nothing: an entry that is not acknowledged stays pending, is posted again by this process or
another, and the ledger gives the first outcome again. So does a lost answer, of Redis or of Postgres. That is why every
failure has the same cure: let the batches in hand end, forget those that wait, and read what is pending from its start.
Nothing is in flight when that reading begins, so that no entry is ever in two batches at once.

What is in flight is bounded. Where Postgres is slow, the stream grows and not this process. Behind, it reads ahead up
to that bound, and batches are large; up to date, it reads when a lane is free, whatever has come by then.

An account that somebody else keeps locked, an upstream in a long transaction of its own, holds up its own events only:
after LOCK_TIMEOUT_MS they are put aside, pending and in their order, until the account is free.

The order per account, as far as it goes: one intake posts the entries that it was given in the order of the stream,
through failures and waiting for locks too. Two intakes are each given a part, and which part of an account's events
comes first is between them. An intake that lives says so for all that it has in hand, so that nobody claims it; one
that was stopped for `claim_idle_s` and then goes on posts what another has posted meanwhile, which changes nothing.
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
from jobs.ledger.database import first_line
from jobs.spend import locked_accounts
from worker.batch import Batch, parted, sort_out
from worker.lane import IDS_SHOWN_MAX, AccountsLocked, Lane, Ledger
from worker.lanes import Lanes
from worker.outage import Outage
from worker.stopping import StopRequest
from worker.stream import FIRST, Delivery, Entry, SpendStream, consumer_name, is_group_missing, open_redis, parser
from worker.trim import trim_stream

log = structlog.get_logger()

BLOCK_MS_MAX: Final = 500  # the longest that a request to stop waits for Redis
READ_MAX: Final = 1_000  # entries of one read, and at most half a batch: a lane joins what several reads brought
BYTES_MAX: Final = 8 * 2**20  # of fields in flight, so many that an event has to be far over average to meet it
HELD_LOOK_S: Final = 1.0
IDLE_CONSUMER_S: Final = 600
FINISH_S: Final = 3.0  # for posting what was read, once asked to stop; the rest stays pending
END_S: Final = 4.0  # for the transactions that are under way then; longer than one waits for a lock


class Intake:
    """One consumer of the stream. `run` until told to stop; `step` reads once."""

    def __init__(self, settings: Settings) -> None:
        self._read_max = min(READ_MAX, max(1, settings.intake_batch_max // 2))
        self._block_ms = min(settings.intake_block_ms, BLOCK_MS_MAX, settings.intake_claim_idle_s * 250)
        self._claim_idle_s = settings.intake_claim_idle_s
        self._redis = open_redis(settings.needed("redis_url"))
        self._stream = SpendStream(self._redis, consumer_name())
        url = settings.needed("database_url")
        self._posting = [Lane(Ledger(url), self._stream) for _ in range(settings.intake_lanes)]
        self._lanes = Lanes([lane.post for lane in self._posting], settings.intake_batch_max, BYTES_MAX)
        self._ledger = Ledger(url)  # for looking at accounts that somebody holds
        self._redis_outage = Outage("redis")
        self._ledger_outage = Outage("postgres")
        self._posted_before = 0  # batches, by the last failure of Postgres
        self._pending_after: bytes | None = FIRST  # where reading of our own pending entries goes on; None: all read
        self._is_behind = True  # the last read brought as much as it might
        self._held: set[str] = set()  # accounts whose events are put aside
        self._ignored: set[bytes] = set()  # fields that were named in the log once
        self._look_held_at = 0.0
        self._tend_at = 0.0

    def run(self, stop: StopRequest) -> None:
        """Posts batches until it is asked to stop. Outlives the loss of Redis and of Postgres."""
        log.info("intake.started", consumer=self._stream.consumer, lanes=self._lanes.count, parser=parser())
        while not stop.is_set:
            wait_s = self._step_or_wait()
            if wait_s:
                stop.wait(wait_s)
        self._finish()
        log.info("intake.stopped", consumer=self._stream.consumer)

    def _step_or_wait(self) -> float:
        """One step; returns how long to wait before the next one, which is 0 unless something failed."""
        try:
            self.step()
        except AccountsLocked as locked:
            self._start_over()
            self._hold(locked.accounts)
        except redis.ResponseError as error:
            self._start_over()
            return self._restore_group() if is_group_missing(error) else self._redis_outage.note(error)
        except redis.RedisError as error:
            self._start_over()
            return self._redis_outage.note(error)
        except (psycopg.Error, DatabaseUnavailable) as error:
            self._start_over()
            self._ledger.close()
            self._posted_before = self._lanes.posted
            return self._ledger_outage.note(error)
        return 0.0

    def step(self) -> int:
        """Reads once, waiting a moment for entries or for room, hands what came to the lanes, and says how many.

        Raises AccountsLocked, `redis.RedisError`, `psycopg.Error` and DatabaseUnavailable, its own or those of a lane;
        nothing is lost by calling it again after `_start_over`.
        """
        self._tend()
        self._look_for_freed_accounts()
        if not self._is_ready_to_read():
            return 0
        is_pending = self._pending_after is not None
        delivery = self._read()
        self._redis_outage.over()
        self._is_behind = len(delivery.entries) >= self._read_max
        if not delivery.entries and not delivery.lost:
            self._pending_after = None if is_pending else self._pending_after
            return 0
        if is_pending:
            self._pending_after = delivery.last_id
        self._hand_out(delivery)
        return len(delivery.entries)

    def _start_over(self) -> None:
        """From here on nothing is read before nothing is in flight, and then first what is pending."""
        self._pending_after = FIRST
        self._lanes.discard()

    def _is_ready_to_read(self) -> bool:
        if self._lanes.posted > self._posted_before:
            self._ledger_outage.over()
        if self._pending_after == FIRST:
            if not self._lanes.wait_until_idle(self._block_ms / 1000):
                return False
            for lane in self._posting:
                lane.ledger.connection()
        if not self._is_behind and not self._lanes.wait_for_a_free_lane(self._block_ms / 1000):
            return False
        return self._lanes.wait_for_room(self._read_max, self._block_ms / 1000)

    def _read(self) -> Delivery:
        if self._pending_after is not None:
            return self._stream.read_pending(self._read_max, self._pending_after)
        return self._stream.read_new(self._read_max, self._block_ms)

    def _hand_out(self, delivery: Delivery) -> None:
        """Gives the lanes what was delivered, and lets go of what is lost."""
        self._let_go(delivery.lost)
        if not delivery.entries:
            return
        read = sort_out(delivery.entries)
        self._say_ignored(read.unknown_fields)
        held = self._held
        ready = [row for row in read.readable if row.event.account not in held] if held else read.readable
        batch = Batch(ready, read.malformed, _bytes(delivery.entries), len(read.readable) - len(ready))
        self._lanes.offer(parted(batch, self._lanes.count))

    def _let_go(self, lost: Sequence[bytes]) -> None:
        if not lost:
            return
        self._stream.acknowledge(lost)
        stream_ids = [stream_id.decode() for stream_id in lost[:IDS_SHOWN_MAX]]
        log.error("spend.entries_lost", count=len(lost), stream_ids=stream_ids)

    def _hold(self, accounts: Collection[str]) -> None:
        self._held |= set(accounts)
        self._look_held_at = time.monotonic() + HELD_LOOK_S
        if accounts:
            log.warning("spend.accounts_locked", count=len(accounts), accounts=sorted(accounts)[:IDS_SHOWN_MAX])

    def _look_for_freed_accounts(self) -> None:
        """Reads what was put aside once more when one of the accounts is free."""
        if not self._held or time.monotonic() < self._look_held_at:
            return
        self._look_held_at = time.monotonic() + HELD_LOOK_S
        still_locked = set(locked_accounts(self._ledger.connection(), self._held))
        freed = sorted(self._held - still_locked)
        if freed:
            self._held = still_locked
            self._start_over()
            log.info("spend.accounts_freed", count=len(freed), accounts=freed[:IDS_SHOWN_MAX])

    def _tend(self) -> None:
        """Now and then: says that it lives, takes over the entries of silent consumers, removes those that are done,
        trims the stream."""
        if time.monotonic() < self._tend_at:
            return
        every_s = min(self._claim_idle_s / 3, 5.0)
        self._tend_at = time.monotonic() + every_s
        if self._stream.ensure_group():
            log.warning("intake.group_created")
        self._stream.say_reading()
        if not self._ledger_outage.is_on:
            self._let_go(self._stream.keep(round(every_s * 1000)))
        self._claim()
        for consumer in self._stream.remove_idle_consumers(max(IDLE_CONSUMER_S, self._claim_idle_s)):
            log.info("intake.consumer_removed", consumer=consumer)
        trimmed = trim_stream(self._redis)
        if trimmed.is_held_back:
            log.warning("stream.held_back", length=trimmed.length, needed_from=trimmed.needed_from)

    def _claim(self) -> None:
        claimed = self._stream.claim(self._claim_idle_s, self._read_max)
        self._let_go(claimed.lost)
        if claimed.entries:
            self._start_over()
            self._tend_at = 0.0
            log.info("spend.entries_claimed", count=claimed.entries, consumer=self._stream.consumer)

    def _restore_group(self) -> float:
        """Redis was emptied: the group begins at the first entry again. Returns how long to wait."""
        try:
            self._stream.ensure_group()
        except redis.RedisError as error:
            return self._redis_outage.note(error)
        log.warning("intake.group_created")
        return 0.0

    def _finish(self) -> None:
        """Posts what was read, as far as that takes no longer than FINISH_S, and leaves the rest pending."""
        try:
            is_done, why = self._lanes.wait_until_idle(FINISH_S), f"not posted within {FINISH_S:.0f} s"
        except (AccountsLocked, redis.RedisError, psycopg.Error, DatabaseUnavailable) as error:
            is_done, why = False, first_line(error)
        if not is_done:
            log.warning("intake.left_pending", error=why)
        self._lanes.close(END_S)  # one that takes longer ends with the process: what it did not commit is rolled back
        self._redis.close()

    def _say_ignored(self, names: Set[bytes]) -> None:
        for name in sorted(names - self._ignored)[: IDS_SHOWN_MAX - len(self._ignored)]:
            self._ignored.add(name)
            log.warning("spend.field_ignored", field=name.decode(errors="backslashreplace")[:64])


def _bytes(entries: Sequence[Entry]) -> int:
    return sum(map(len, map(b"".join, (entry.fields for entry in entries))))
