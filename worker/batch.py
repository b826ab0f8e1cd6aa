"""One batch of stream entries into the ledger: what can be posted is posted, what cannot goes to quarantine, in one
transaction.

A row that the database refuses although it could be read is found by halving, so that the others are posted without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from jobs import quarantine
from jobs.ledger.database import Connection, first_line
from jobs.quarantine import Quarantined
from jobs.spend import FIELDS, TRANSIENT, BatchSummary, Malformation, SpendEvent, post_summarised, read_event
from worker.stream import Entry

_TRIES: Final = 5
_WAIT_S_MAX: Final = 0.05

# A row is at fault, not the moment. (A unique violation that outlives its tries is one of these.)
_REFUSED_BY_DATABASE: Final = (psycopg.DataError, psycopg.IntegrityError)


class Readable(NamedTuple):
    """An entry that states a spend event."""

    entry: Entry
    event: SpendEvent


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch before it is posted. `unknown_fields` are names that this release ignores."""

    readable: Sequence[Readable]
    malformed: Sequence[Quarantined]
    unknown_fields: Set[bytes]


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


def post_batch(connection: Connection, readable: Sequence[Readable], malformed: Sequence[Quarantined]) -> Posted:
    """Posts the readable and keeps the malformed. When it returns, every entry is either posted or in quarantine.

    Raises psycopg.Error where the ledger could not take the batch now; what was posted by then is not posted twice when
    the batch is tried again.
    """
    again = Retrying(
        retry=retry_if_exception_type(TRANSIENT),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random(0, _WAIT_S_MAX),
        reraise=True,
    )
    try:
        return again(_post_together, connection, readable, malformed)
    except _REFUSED_BY_DATABASE as error:
        if not readable:
            raise
        if len(readable) == 1:
            guilty = _quarantined(readable[0].entry, Malformation("refused_by_database", first_line(error)))
            return post_batch(connection, (), [*malformed, guilty])
    middle = len(readable) // 2
    return post_batch(connection, readable[:middle], malformed) + post_batch(connection, readable[middle:], ())


def _post_together(connection: Connection, readable: Sequence[Readable], malformed: Sequence[Quarantined]) -> Posted:
    with connection.transaction():
        summary = post_summarised(connection, [row.event for row in readable])
        quarantined = [*malformed, *(_quarantined(readable[i].entry, _CONFLICT) for i in summary.conflicts)]
        quarantine.keep(connection, quarantined)
    return Posted(_counts(summary, malformed), _refused(summary, readable), quarantined)


def _counts(summary: BatchSummary, malformed: Sequence[Quarantined]) -> Mapping[str, int]:
    return {**summary.counts, "malformed": len(malformed)} if malformed else summary.counts


def _refused(summary: BatchSummary, readable: Sequence[Readable]) -> Mapping[str, Sequence[str]]:
    return {outcome: [readable[i].event.event_id for i in places] for outcome, places in summary.refused.items()}


_REPEATED: Final = Malformation("repeated_field", "a field is there more than once")
_CONFLICT: Final = Malformation("conflict", "an event of this id with other content was posted before")


def _quarantined(entry: Entry, why: Malformation) -> Quarantined:
    pairs = list(zip(entry.fields[::2], entry.fields[1::2], strict=True))
    return Quarantined(entry.stream_id.decode(), why.reason, why.detail, pairs)
