"""Which scheduler leads: the one whose session holds an advisory lock in Postgres. Any number may run.

    waiting --lock taken--> leading --connection lost, or stopped--> waiting

The lock lives as long as its connection: a leader that is killed, or cut off, loses it as soon as Postgres notices.
There may be a moment in which a leader that was cut off still believes in itself; claimed slots make that harmless
(`jobs.slots`). Needs a session of its own: behind a pooler that hands transactions around, give the scheduler a
direct URL.
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
UNANSWERED_MS: Final = 10_000  # a leader that is cut off learns it this soon


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
            note_election(self._connection, process_name())
        return is_leader

    def is_held(self) -> bool:
        """Whether the session that holds the lock still lives; asks Postgres."""
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
