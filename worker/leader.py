"""Which scheduler leads: the one whose session holds an advisory lock in Postgres. Any number may run.

    waiting ──lock taken──► leading ──stopped: the lock is given back at once──────────► ended
       ▲  ╲                    │
       │   ╲──not free──╮      ├──killed: its kernel closes the session, at once──────► gone
       │                │      ├──session lost: seen within CHECK_S───────────────╮
       │◄──asks again───╯      ├──cut off: no answer for UNANSWERED_MS────────────┤
       │                       ╰──frozen: notices when it goes on─────────────────┤
       ╰──────────────────────────────────────────────────────────────────────────╯

The lock lives as long as its session, and the session as long as somebody asks in it: a leader asks every second
(`Leadership.is_held`), and Postgres itself ends a session in which nobody asked for SILENT_MS
(``idle_session_timeout``). It needs no word from the client for that: a leader whose machine lost its power or its
network, or whose process stands still, loses the lock as surely as one that was killed. A leader that is cut off stops
before Postgres gives it up (UNANSWERED_MS < SILENT_MS), and another leads REFILL_LEADER_RETRY_S later at most.

There may still be a moment in which two believe to lead, where one stood still and goes on. Claimed slots make that
harmless (`jobs.slots`), and no clock but that of Postgres has a say. Needs a session of its own: behind a pooler that
hands transactions around, give the scheduler a direct URL.
"""

from __future__ import annotations

import os
import socket
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo

from jobs.errors import DatabaseUnavailable
from jobs.ledger.database import Connection, fetch_one, open_connection
from jobs.slots import LEADER_LOCK, note_election

APPLICATION: Final = "refill leader"
UNANSWERED_MS: Final = 3_000  # after so long without a word from its machine the leader gives Postgres up
SILENT_MS: Final = 5_000  # after so long without a question Postgres gives the leader up


def process_name() -> str:
    """This process among all: its host and its number there."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Leadership:
    """The candidacy of one process. Not for several threads."""

    def __init__(self, url: str) -> None:
        self._url = make_conninfo(url, tcp_user_timeout=UNANSWERED_MS)
        self._connection: Connection | None = None

    def acquire(self) -> bool:
        """Tries once to become the leader, and notes it. Raises DatabaseUnavailable and ``psycopg.Error``."""
        if self._connection is None or self._connection.closed:
            self._connection = open_connection(self._url, application=APPLICATION)
        is_leader: bool = fetch_one(self._connection, "select pg_try_advisory_lock(%s)", (LEADER_LOCK,))[0]
        if is_leader:
            self._connection.execute(f"set idle_session_timeout = {SILENT_MS}; set tcp_user_timeout = {SILENT_MS}")
            note_election(self._connection, process_name())
        return is_leader

    def is_held(self) -> bool:
        """Whether the session that holds the lock still lives; asks Postgres, which is the sign of life it waits
        for."""
        if self._connection is None:
            return False
        try:
            fetch_one(self._connection, "select 1")
        except (psycopg.Error, DatabaseUnavailable):
            return False
        return True

    def release(self) -> None:
        """Gives the lock back, whatever state the connection is in."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
