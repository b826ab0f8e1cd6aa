"""What happened gets its number: the sequencer of `refill.event`, and the rows that a publisher sends on.

Rows of `refill.event_log` are written in many transactions at once, so that neither their ids nor their times say in
which order they became visible. A sequencer that sees committed rows only, one at a time over all processes, numbers
them afterwards: `seq` follows commit order and has no gaps, so a reader that keeps its last `seq` misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from jobs.ledger.database import Connection, fetch_one

CURSOR: Final = "events_published"
SEQUENCER_LOCK: Final = 7_355_610  # any number that only the sequencer takes
PUBLISHER_LOCK: Final = 7_355_611  # any number that only a publisher takes

# The lock is a statement of its own: the next one sees whatever the sequencer before committed.
_NUMBER: Final = """
    with fresh as (
        select event_log_id, row_number() over (order by event_log_id) as place
        from (select event_log_id from refill.event_log where seq is null order by event_log_id limit %s) e
    ), last as (
        select coalesce(max(seq), 0) as seq from refill.event_log
    )
    update refill.event_log e set seq = last.seq + fresh.place
    from fresh, last where e.event_log_id = fresh.event_log_id
"""

_AFTER: Final = """
    select e.seq, e.at, e.type, coalesce(a.name, e.account), e.data::text
    from refill.event_log e left join refill.account a on a.account_id = e.account_id
    where e.seq > %s order by e.seq limit %s
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One row of `refill.event`; ``data`` is its JSON text."""

    seq: int
    at: datetime
    type: str
    account: str | None
    data: str


def number_events(connection: Connection, limit: int) -> int:
    """Numbers up to ``limit`` events that have no number yet and returns how many it numbered."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (SEQUENCER_LOCK,))
        return connection.execute(_NUMBER, (limit,)).rowcount


def events_after(connection: Connection, seq: int, limit: int) -> list[Event]:
    """The events that follow ``seq``, in order."""
    return [Event(*row) for row in connection.execute(_AFTER, (seq, limit)).fetchall()]


def last_number(connection: Connection) -> int:
    """The highest `seq` given so far; 0 before the first."""
    return int(fetch_one(connection, "select coalesce(max(seq), 0) from refill.event_log")[0])


def published_up_to(connection: Connection) -> int:
    """The last `seq` that is known to be in the stream; 0 before the first."""
    row = connection.execute("select value from refill.cursor where name = %s", (CURSOR,)).fetchone()
    return 0 if row is None else int(row[0])


def record_published(connection: Connection, seq: int) -> None:
    """Moves the cursor forward to ``seq``, never back."""
    connection.execute(
        "insert into refill.cursor as c (name, value) values (%s, %s)"
        " on conflict (name) do update set value = greatest(c.value, excluded.value)",
        (CURSOR, seq),
    )


@contextmanager
def sole_publisher(connection: Connection) -> Iterator[bool]:
    """Whether this session is the only publisher inside the block; it must not publish where it is not.

    A session lock and no transaction, because the block talks to Redis. Where the session is lost in between another
    may begin: the stream's ids then refuse what is already there.
    """
    is_sole = bool(fetch_one(connection, "select pg_try_advisory_lock(%s)", (PUBLISHER_LOCK,))[0])
    try:
        yield is_sole
    finally:
        if is_sole and not connection.closed:
            connection.execute("select pg_advisory_unlock(%s)", (PUBLISHER_LOCK,))
