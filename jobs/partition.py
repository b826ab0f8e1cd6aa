"""The partitions of refill.entry, one for each UTC month: made in time, so that the default one stays empty.

Making or removing one needs locks that a long reader, an audit for instance, holds up, and whoever comes after would
wait behind us. So a lock is waited for only briefly, and asked for again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

import psycopg
import structlog
from psycopg.errors import LockNotAvailable
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from jobs.errors import RefillError
from jobs.ledger.database import Connection, fetch_one

log = structlog.get_logger()

MONTHS_AHEAD: Final = 3
LOCK_WAIT_MS: Final = 100
TRY_FOR_S: Final = 60.0

Result = TypeVar("Result")


class EntriesBusy(RefillError):
    """The entries were read or written for so long that no partition could be added or taken out; try again."""

    code = "entries_busy"


def ensure(
    connection: Connection, now: datetime | None = None, months_ahead: int = MONTHS_AHEAD, try_for_s: float = TRY_FOR_S
) -> list[str]:
    """Makes the partitions of this month and the next ones that are missing, and those of rows in the default one.

    Returns their names. Raises EntriesBusy where no moment was found for it.
    """

    def make() -> list[str]:
        made: list[str] = fetch_one(connection, "select refill.ensure_entry_partitions(%s, %s)", (months_ahead, now))[0]
        return made

    made = patiently(connection, make, try_for_s)
    for name in made:
        log.info("partition.created", partition=name)
    return made


def patiently(connection: Connection, act: Callable[[], Result], try_for_s: float = TRY_FOR_S) -> Result:
    """What `act` does, in a transaction or savepoint of its own, tried again until it gets its locks.

    Others wait for one of its locks at most LOCK_WAIT_MS at a time, and at least as long not at all in between. Raises
    EntriesBusy.
    """
    attempts = Retrying(
        retry=retry_if_exception_type(LockNotAvailable),
        wait=wait_random(LOCK_WAIT_MS / 1000, 3 * LOCK_WAIT_MS / 1000),
        stop=stop_after_delay(try_for_s),
        reraise=True,
    )
    try:
        result: Result = attempts(_with_short_waits, connection, act)
    except psycopg.errors.LockNotAvailable as error:
        raise EntriesBusy(
            f"The entries were in use for {try_for_s:.0f} s, by an audit or another long query: no partition could be"
            " added or taken out. Try again when it has ended."
        ) from error
    return result


def _with_short_waits(connection: Connection, act: Callable[[], Result]) -> Result:
    with connection.transaction():
        connection.execute("select set_config('lock_timeout', %s, true)", (f"{LOCK_WAIT_MS}ms",))
        return act()
