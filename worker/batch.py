"""One batch of stream entries into the ledger: what can be posted is posted, what cannot goes to quarantine, and both
are committed before anything is acknowledged.

A row that the database refuses although it could be read is found by halving, so that the others are posted without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple
from zlib import crc32

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from jobs import quarantine
from jobs.ledger.database import Connection, first_line
from jobs.quarantine import Quarantined
from jobs.spend import FIELDS, TRANSIENT, BatchSummary, Malformation, SpendEvent, post_summarised, read_event
from jobs.uniform import read_uniform
from worker.stream import Entry

_TRIES: Final = 5
_WAIT_S_MAX: Final = 0.05

_LANE_LOCKS: Final = 7_355_609  # the first key of the advisory locks that only lanes take

# A row is at fault, not the moment. (A unique violation that outlives its tries is one of these.)
_REFUSED_BY_DATABASE: Final = (psycopg.DataError, psycopg.IntegrityError)


class LaneTaken(Exception):
    """Another intake posts to this lane, and has done so for longer than a lock is waited for."""


class Readable(NamedTuple):
    """An entry that states a spend event."""

    entry: Entry
    event: SpendEvent


@dataclass(frozen=True, slots=True)
class Sorted:
    """Entries that were read. `unknown_fields` are names that this release ignores."""

    readable: Sequence[Readable]
    malformed: Sequence[Quarantined]
    unknown_fields: Set[bytes]


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries for one transaction, in the order of arrival. `size` is the bytes of their fields.

    `put_aside` counts entries that would be here if their account were not locked by somebody else. `lanes` are those
    that its accounts belong to.
    """

    readable: Sequence[Readable]
    malformed: Sequence[Quarantined]
    size: int
    put_aside: int = 0
    lanes: Sequence[int] = ()

    @property
    def events(self) -> int:
        """How many entries it has."""
        return len(self.readable) + len(self.malformed)

    @property
    def stream_ids(self) -> list[bytes]:
        """The ids of its entries."""
        return [row.entry.stream_id for row in self.readable] + [row.stream_id.encode() for row in self.malformed]


def joined(batches: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        [row for batch in batches for row in batch.readable],
        [row for batch in batches for row in batch.malformed],
        sum(batch.size for batch in batches),
        sum(batch.put_aside for batch in batches),
        sorted({lane for batch in batches for lane in batch.lanes}),
    )


def parted(batch: Batch, lanes: int) -> list[Batch]:
    """The batch in as many parts as there are lanes: events of one account are always in the same part.

    What cannot be read has no account, and goes first.
    """
    rows: list[list[Readable]] = [[] for _ in range(lanes)]
    for row in batch.readable:
        rows[crc32(row.event.account.encode()) % lanes].append(row)
    share = batch.size // lanes
    first = Batch(rows[0], batch.malformed, batch.size - share * (lanes - 1), batch.put_aside, (0,))
    return [first, *(Batch(part, (), share, lanes=(lane,)) for lane, part in enumerate(rows[1:], 1))]


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a batch: events per outcome, refused event ids per outcome, and what went to quarantine."""

    counts: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, Sequence[str]] = field(default_factory=dict)
    quarantined: Sequence[Quarantined] = ()

    def __add__(self, other: Posted) -> Posted:
        return Posted(
            Counter(self.counts) + Counter(other.counts),
            {
                outcome: [*self.refused.get(outcome, ()), *other.refused.get(outcome, ())]
                for outcome in {**self.refused, **other.refused}
            },
            [*self.quarantined, *other.quarantined],
        )


def sort_out(entries: Sequence[Entry]) -> Sorted:
    """Reads every entry; pure."""
    events = read_uniform([entry.fields for entry in entries])
    if events is not None:
        return Sorted(list(map(Readable, entries, events)), (), set(entries[0].fields[::2]) - FIELDS)
    return _sort_out_one_by_one(entries)


def _sort_out_one_by_one(entries: Iterable[Entry]) -> Sorted:
    readable: list[Readable] = []
    malformed: list[Quarantined] = []
    unknown: set[bytes] = set()
    for entry in entries:
        flat = entry.fields
        fields = dict(zip(islice(flat, 0, None, 2), islice(flat, 1, None, 2), strict=True))
        result = read_event(fields) if len(fields) * 2 == len(flat) else _REPEATED
        if isinstance(result, Malformation):
            malformed.append(_quarantined(entry, result))
        else:
            readable.append(Readable(entry, result))
            if not fields.keys() <= FIELDS:
                unknown.update(fields.keys() - FIELDS)
    return Sorted(readable, malformed, unknown)


def post_batch(
    connection: Connection,
    readable: Sequence[Readable],
    malformed: Sequence[Quarantined],
    reserved: Sequence[int] = (),
) -> Posted:
    """Posts the readable and keeps the malformed. When it returns, every entry is either posted or in quarantine.

    Of the lanes that it reserves, no other transaction that reserves them posts meanwhile, in whatever process.

    Raises LaneTaken where that was waited for too long, and psycopg.Error where the ledger could not take the batch;
    what was posted by then is not posted twice when the batch is tried again.
    """
    again = Retrying(
        retry=retry_if_exception_type(TRANSIENT),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random(0, _WAIT_S_MAX),
        reraise=True,
    )
    try:
        return again(_post_together, connection, readable, malformed, reserved)
    except _REFUSED_BY_DATABASE as error:
        if not readable:
            raise
        if len(readable) == 1:
            guilty = _quarantined(readable[0].entry, Malformation("refused_by_database", first_line(error)))
            return post_batch(connection, (), [*malformed, guilty], reserved)
    middle = len(readable) // 2
    return post_batch(connection, readable[:middle], malformed, reserved) + post_batch(
        connection, readable[middle:], (), reserved
    )


def _post_together(
    connection: Connection, readable: Sequence[Readable], malformed: Sequence[Quarantined], reserved: Sequence[int]
) -> Posted:
    """A few readable events are one statement, which needs no transaction around it: two questions less. Killed between
    it and the keeping of what contradicts, the entries are pending and contradict again."""
    with connection.transaction() if reserved or malformed else nullcontext():
        if reserved:
            _reserve(connection, reserved)
        summary = post_summarised(connection, [row.event for row in readable])
        quarantined = [*malformed, *(_quarantined(readable[i].entry, _CONFLICT) for i in summary.conflicts)]
        quarantine.keep(connection, quarantined)
    return Posted(_counts(summary, malformed), _refused(summary, readable), quarantined)


def _reserve(connection: Connection, lanes: Sequence[int]) -> None:
    """Several at once are taken in ascending order, so that two of them never wait in a circle."""
    try:
        connection.execute(
            "select pg_advisory_xact_lock(%s, lane) from unnest(%s::int[]) lane", (_LANE_LOCKS, list(lanes))
        )
    except psycopg.errors.LockNotAvailable as error:
        raise LaneTaken from error


def _counts(summary: BatchSummary, malformed: Sequence[Quarantined]) -> Mapping[str, int]:
    return {**summary.counts, "malformed": len(malformed)} if malformed else summary.counts


def _refused(summary: BatchSummary, readable: Sequence[Readable]) -> Mapping[str, Sequence[str]]:
    return {outcome: [readable[i].event.event_id for i in places] for outcome, places in summary.refused.items()}


_REPEATED: Final = Malformation("repeated_field", "a field is there more than once")
_CONFLICT: Final = Malformation("conflict", "an event of this id with other content was posted before")


def _quarantined(entry: Entry, why: Malformation) -> Quarantined:
    pairs = list(zip(entry.fields[::2], entry.fields[1::2], strict=True))
    return Quarantined(entry.stream_id.decode(), why.reason, why.detail, pairs)
