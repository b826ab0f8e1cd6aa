"""Delivers the messages that other transactions wrote: at least once, and a bad one never holds back another.

    pending --claimed--> (sent to the server) --> sent
       ^                          |
       |---- later, by BACK_OFF --|--> poisoned: refused for good, not writable, or too many tries

A claim is one short transaction: it counts the try and moves the next one past CLAIM, so that nobody else takes the
message meanwhile and a killed worker's message comes back by itself. Sending happens between two transactions. A
kill between sending and the note of it sends a second copy with the same Message-ID, which mail programs show once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import structlog

from jobs.errors import RefillError
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.letter import LetterFailed, Message, Recharge, write_letter
from jobs.mailer import Mailer, MailRefused
from jobs.program import from_json

log = structlog.get_logger()

Outcome = Literal["sent", "deferred", "poisoned", "skipped"]

CLAIM: Final = timedelta(minutes=5)  # longer than a mailer's tries take at most
BACK_OFF: Final = tuple(timedelta(minutes=m) for m in (1, 5, 30, 120, 720))
_ERROR_CHARACTERS_MAX: Final = 500

_CLAIM: Final = """
    update refill.message m set attempts = m.attempts + 1, next_at = %(until)s
    from (select message_id from refill.message
          where message_id = %(id)s and state = 'pending' and next_at <= %(now)s for update skip locked) due
    where m.message_id = due.message_id
    returning m.attempts
"""

_READ: Final = """
    select m.kind, m.to_address, m.data, p.terms::text, a.recharge_below,
           case when not coalesce(o.enabled, false) or a.recharge_below is null then 'off'
                when exists (select from refill.card c where c.account_id = a.account_id and c.removed_at is null)
                     or p.terms #>> array['tiers', a.tier, 'bills'] = 'manager' then 'on'
                else 'no_card' end
    from refill.message m
    join refill.account a on a.account_id = m.account_id
    join refill.program p on p.program_id = a.program_id
    left join refill.policy o on o.account_id = a.account_id
    where m.message_id = %s
"""


@dataclass(frozen=True, slots=True)
class Post:
    """Whom mail comes from and how it leaves."""

    mailer: Mailer
    mail_from: str


@dataclass(frozen=True, slots=True)
class _Claim:
    """One try at one message; ``attempt`` counts from 1."""

    message_id: str
    attempt: int


def due_messages(connection: Connection, limit: int = 1000, now: datetime | None = None) -> list[str]:
    """The ids of messages that wait to be sent, the longest waiting first."""
    rows = connection.execute(
        "select message_id::text from refill.message"
        " where state = 'pending' and next_at <= coalesce(%s, (select clock_timestamp())) order by next_at limit %s",
        (now, limit),
    )
    return [message_id for (message_id,) in rows]


def deliver(connection: Connection, post: Post, message_id: str, now: datetime | None = None) -> Outcome:
    """Sends one message where it is due and returns what became of it; ``skipped`` where it is not due or another
    has it.

    Its own failure is no exception: it is written to the message and logged. Raises what the driver raises.
    """
    claim = _claimed(connection, message_id, now)
    if claim is None:
        return "skipped"
    if claim.attempt > len(BACK_OFF) + 1:  # tries that left no note: whatever killed the worker must not do so for ever
        return _poison(connection, claim, "not_finished", "Every try ended without a result.")
    try:
        message = _read(connection, claim.message_id)
        post.mailer.send(write_letter(message, post.mail_from, now or database_now(connection)))
    except (LetterFailed, MailRefused) as error:
        return _poison(connection, claim, error.code, str(error))
    except RefillError as error:
        return _defer(connection, claim, error, now)
    return _note_sent(connection, claim, message, now)


def _claimed(connection: Connection, message_id: str, now: datetime | None) -> _Claim | None:
    moment = now or database_now(connection)
    with connection.transaction():
        row = connection.execute(_CLAIM, {"id": message_id, "now": moment, "until": moment + CLAIM}).fetchone()
    return None if row is None else _Claim(message_id, int(row[0]))


def _read(connection: Connection, message_id: str) -> Message:
    kind, to_address, data, terms, recharge_below, recharge = fetch_one(connection, _READ, (message_id,))
    standing: Recharge = recharge
    return Message(message_id, kind, to_address, data, from_json(terms), standing, recharge_below)


def _note_sent(connection: Connection, claim: _Claim, message: Message, now: datetime | None) -> Outcome:
    with connection.transaction():
        connection.execute(
            "update refill.message set state = 'sent', sent_at = coalesce(%s, clock_timestamp()), last_error = null"
            " where message_id = %s and state <> 'sent'",
            (now, claim.message_id),
        )
    log.info(
        "message.sent",
        message_id=claim.message_id,
        kind=message.kind,
        account=message.data.get("account"),
        event_id=message.data.get("event_id"),
        charge_id=message.data.get("charge_id"),
    )
    return "sent"


def _defer(connection: Connection, claim: _Claim, error: RefillError, now: datetime | None) -> Outcome:
    if claim.attempt > len(BACK_OFF):
        return _poison(connection, claim, error.code, str(error))
    next_at = (now or database_now(connection)) + BACK_OFF[claim.attempt - 1]
    _write(connection, claim, "pending", str(error), next_at)
    log.warning(
        "message.deferred",
        message_id=claim.message_id,
        attempts=claim.attempt,
        next_at=next_at.isoformat(),
        code=error.code,
        error=str(error),
    )
    return "deferred"


def _poison(connection: Connection, claim: _Claim, code: str, error: str) -> Outcome:
    _write(connection, claim, "poisoned", error, None)
    log.error("message.poisoned", message_id=claim.message_id, attempts=claim.attempt, code=code, error=error)
    return "poisoned"


def _write(connection: Connection, claim: _Claim, state: str, error: str, next_at: datetime | None) -> None:
    """What became of this try, unless a later one has the message by now; without the recipient's address."""
    with connection.transaction():
        connection.execute(
            "update refill.message set state = %s, next_at = coalesce(%s, next_at),"
            " last_error = left(replace(%s, to_address, '(the recipient)'), %s)"
            " where message_id = %s and state = 'pending' and attempts = %s",
            (state, next_at, error, _ERROR_CHARACTERS_MAX, claim.message_id, claim.attempt),
        )
