"""Turns what Postgres says on `refill_poke` into pokes. Runs in the leading scheduler, in a thread of its own.

Postgres says it after the commit of its cause, and to nobody where no listener is connected: what is said meanwhile
is lost, and the sweeps find the rows.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import psycopg
import structlog

from jobs.errors import DatabaseUnavailable
from jobs.ledger.database import Connection, connect
from worker.coalesce import Coalescer
from worker.outage import Outage
from worker.pokes import Sender, read_poke

log = structlog.get_logger()

CHANNEL: Final = "refill_poke"
WINDOW_S: Final = 0.02
_LOOK_S: Final = 0.5


class Listener:
    """The listening thread, from `start` to `stop`. Outlives a restart of Postgres."""

    def __init__(self, url: str, sender: Sender) -> None:
        self._url = url
        self._sender = sender
        self._coalescer = Coalescer(WINDOW_S)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it."""
        self._stop.set()
        self._thread.join(timeout=5 * _LOOK_S)

    @property
    def is_alive(self) -> bool:
        """False where the thread was never started, was stopped, or died of something that nobody foresaw."""
        return self._thread.is_alive()

    def _run(self) -> None:
        outage = Outage("postgres")
        while not self._stop.is_set():
            try:
                with connect(self._url, application="refill listener") as connection:
                    connection.execute(f"listen {CHANNEL}")
                    outage.over()
                    self._listen(connection)
            except (psycopg.Error, DatabaseUnavailable) as error:
                self._stop.wait(outage.note(error))

    def _listen(self, connection: Connection) -> None:
        while not self._stop.is_set():
            wait_s = WINDOW_S if self._coalescer.is_waiting else _LOOK_S
            said = [one.payload for one in connection.notifies(timeout=wait_s, stop_after=1)]
            now = time.monotonic()
            fresh = [payload for payload in said if self._coalescer.offer(payload, now)]
            for payload in sorted([*fresh, *self._coalescer.due(now)], key=_waits):
                self._pass_on(payload)

    def _pass_on(self, payload: str) -> None:
        poke = read_poke(payload)
        if poke is None:
            log.warning("poke.malformed", payload=payload[:100])
            return
        self._sender.send(poke)


def _waits(payload: str) -> bool:
    """Whether others go before it: of what one transaction says, a card that is to be charged comes first."""
    return not payload.startswith(("evaluate", "advance"))
