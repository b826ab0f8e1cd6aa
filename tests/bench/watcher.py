"""When each spend event became visible to everybody else, which is when it was durably committed.

A loop inside Postgres looks about once in a millisecond for events that it has not seen and notes the time, by the
clock of this machine, after it has found them: what it says is late by up to about a millisecond, never early.
(`pg_xact_commit_timestamp` would be early: Postgres takes it before it has synced the commit to the disk.)
"""

from __future__ import annotations

import threading
from types import TracebackType

from jobs.ledger.database import connect

_PREFIX = "event-"
_DIGITS = 9

_SET_UP = """
create temp table seen (number int primary key, at timestamptz not null);
set synchronous_commit = off;  -- of its own notes
set enable_seqscan = off;  -- the first look finds an empty table, and its plan is kept
create procedure pg_temp.watch(p_events int, p_patience interval) language plpgsql as $$
declare
    v_all_up_to int := 0;
    v_until timestamptz := clock_timestamp() + p_patience;
begin
    while v_all_up_to < p_events and clock_timestamp() < v_until loop
        insert into seen
            select substr(event_id, 7)::int, clock_timestamp() from refill.spend_event
            where event_id > 'event-' || lpad(v_all_up_to::text, 9, '0') on conflict do nothing;
        commit;
        while exists (select from seen where number = v_all_up_to + 1) loop
            v_all_up_to := v_all_up_to + 1;
        end loop;
        perform pg_sleep(0.001);
    end loop;
end $$;
"""


def event_id(number: int) -> str:
    """The id of one event; they are numbered from 1."""
    return f"{_PREFIX}{number:0{_DIGITS}}"


class Watcher:
    """Watches for so many events in a thread of its own; `seen` says when each was there, once all are."""

    def __init__(self, url: str, events: int, patience_s: float) -> None:
        self._url, self._events, self._patience_s = url, events, patience_s
        self._seen: dict[int, float] = {}
        self._looks = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        assert self._looks.wait(10), "the watcher could not begin"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join(self._patience_s + 10)

    def seen(self) -> dict[int, float]:
        """The moment of each event, in seconds since 1970; after the block. Raises AssertionError where one is
        missing."""
        missing = [number for number in range(1, self._events + 1) if number not in self._seen]
        assert not missing, f"{len(missing)} events were not posted, the first is {event_id(missing[0])}"
        return self._seen

    def _run(self) -> None:
        with connect(self._url, application="bench watcher") as connection:
            connection.execute(_SET_UP)
            self._looks.set()
            connection.execute(
                "call pg_temp.watch(%s, make_interval(secs => %s))", (self._events, self._patience_s), prepare=False
            )
            rows = connection.execute("select number, extract(epoch from at)::float8 from seen").fetchall()
            self._seen = dict(rows)
