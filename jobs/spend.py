"""Spend events: reading one as upstream sent it, and posting many at once.

Reading is strict where a guess could cost somebody money and lenient where it cannot. What names the event, the account
and the amount must be there and be exact. An optional field that is empty counts as absent. A field that this release
does not know is ignored, so that an upstream which starts to send one more does not lose its billing over it; the
intake says which ones it ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, LiteralString, NamedTuple, TypeAlias

import psycopg
from psycopg.rows import TupleRow
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from jobs.errors import Malformed
from jobs.ledger.database import Connection, fetch_one

ID_LENGTH_MAX: Final = 64
ACCOUNT_LENGTH_MAX: Final = 64
TEXT_LENGTH_MAX: Final = 500  # ref, memo and actor
AMOUNT_MAX: Final = 2**63 - 1
WAIT_S_MAX: Final = 2**31 - 1
YEAR_MIN: Final = 1970
YEAR_MAX: Final = 2199

FIELDS: Final = frozenset((b"id", b"account", b"amount", b"at", b"ref", b"memo", b"actor", b"wait_s"))

OutcomeName: TypeAlias = Literal[
    "accepted", "insufficient_credit", "unknown_account", "account_closed", "malformed", "conflict"
]
Reason: TypeAlias = Literal[
    "missing_field", "repeated_field", "not_utf8", "nul_byte", "bad_id", "bad_account", "bad_amount", "bad_at",
    "bad_wait_s", "text_too_long", "conflict", "refused_by_database",
]  # fmt: skip

# What may pass when it is simply done again: another transaction was first.
TRANSIENT: Final = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)

# RFC 3339, section 5.6; a blank may stand for the T, as the note there allows. The zone is not optional.
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_POST_ONE_TRIES: Final = 5


class SpendEvent(NamedTuple):
    """Upstream's statement that an account used credit. `amount` is in the program's smallest unit.

    A named tuple, so that a batch of them turns into the columns that the ledger takes without a loop.
    """

    event_id: str
    account: str
    amount: int
    spent_at: datetime | None = None
    ref: str | None = None
    memo: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Malformation:
    """Why an event cannot be read: a stable reason and a sentence for whoever sent it."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event: the balance after it and, where credit did not suffice, how much is missing."""

    event_id: str
    account: str
    outcome: OutcomeName
    balance: int | None
    required: int
    available: int | None
    shortfall: int | None


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What became of a batch: events per outcome, and the positions in the batch of those that were not accepted."""

    counts: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def conflicts(self) -> Sequence[int]:
        """Positions of the events whose id was used before with other content."""
        return self.refused.get("conflict", ())


def read_event(fields: Mapping[bytes, bytes]) -> SpendEvent | Malformation:
    """The event that the fields of a stream entry state, or why they state none.

    `wait_s` is checked and otherwise unused: no program of this release lets an event wait.
    """
    try:
        event_id = fields[b"id"].decode()
        account = fields[b"account"].decode()
        amount = fields[b"amount"]
        if not 1 <= len(event_id) <= ID_LENGTH_MAX:
            return _bad_length("bad_id", "id", event_id, ID_LENGTH_MAX)
        if not 1 <= len(account) <= ACCOUNT_LENGTH_MAX:
            return _bad_length("bad_account", "account", account, ACCOUNT_LENGTH_MAX)
        if "\0" in event_id or "\0" in account:
            return Malformation("nul_byte", "id and account must not contain a NUL byte")
        credits_used = _digits(amount, AMOUNT_MAX)
        if not credits_used:
            return Malformation(
                "bad_amount", f"amount must be a whole number from 1 to {AMOUNT_MAX}, not {_shown(amount)}"
            )
        if len(fields) == 3:
            return SpendEvent(event_id, account, credits_used)
        return _read_optional(fields, SpendEvent(event_id, account, credits_used))
    except KeyError as missing:
        return Malformation("missing_field", f"{missing.args[0].decode()} is missing")
    except UnicodeDecodeError as error:
        return Malformation("not_utf8", f"a value is not UTF-8: {_shown(error.object)}")


def _read_optional(fields: Mapping[bytes, bytes], event: SpendEvent) -> SpendEvent | Malformation:
    texts: list[str | None] = []
    for name in (b"ref", b"memo", b"actor"):
        text = fields.get(name, b"").decode()
        if len(text) > TEXT_LENGTH_MAX:
            return _bad_length("text_too_long", name.decode(), text, TEXT_LENGTH_MAX)
        if "\0" in text:
            return Malformation("nul_byte", f"{name.decode()} must not contain a NUL byte")
        texts.append(text or None)
    at = fields.get(b"at", b"")
    spent_at = read_timestamp(at.decode()) if at else None
    if at and spent_at is None:
        return Malformation(
            "bad_at", f"at must be RFC 3339 with a zone, years {YEAR_MIN} to {YEAR_MAX}, not {_shown(at)}"
        )
    wait_s = fields.get(b"wait_s", b"")
    if wait_s and _digits(wait_s, WAIT_S_MAX) is None:
        return Malformation("bad_wait_s", f"wait_s must be a whole number of seconds, not {_shown(wait_s)}")
    ref, memo, actor = texts
    return event._replace(spent_at=spent_at, ref=ref, memo=memo, actor=actor)


def read_timestamp(text: str) -> datetime | None:
    """The moment that an RFC 3339 text names, or None. Digits after the microsecond are dropped.

    A leap second (`:60`) is none that Python or Postgres can keep, and is refused.
    """
    if not _TIMESTAMP.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return moment if YEAR_MIN <= moment.year <= YEAR_MAX else None


def _digits(text: bytes, most: int) -> int | None:
    """The number that ASCII digits alone write, up to `most`. int() alone would take signs, blanks and underscores."""
    if not text.isdigit() or len(text) > 32:
        return None
    number = int(text)
    return number if number <= most else None


def _bad_length(reason: Reason, name: str, text: str, most: int) -> Malformation:
    least = 0 if reason == "text_too_long" else 1
    return Malformation(reason, f"{name} must have {least} to {most} characters, not {len(text)}")


def _shown(value: bytes) -> str:
    return ascii(value[:40])[1:] + ("…" if len(value) > 40 else "")


_POST_ROWS: Final[LiteralString] = """
    select ord, outcome::text, balance, required, available, shortfall
    from refill.post_spend(%b::text[], %b::text[], %b::bigint[], %b::timestamptz[], %b::text[], %b::text[], %b::text[],
                           %b::timestamptz)
    order by ord
"""
_POST_SUMMARY: Final[LiteralString] = """
    select outcome::text, count(*), case when outcome <> 'accepted' then array_agg(ord order by ord) end
    from refill.post_spend(%b::text[], %b::text[], %b::bigint[], %b::timestamptz[], %b::text[], %b::text[], %b::text[],
                           %b::timestamptz)
    group by outcome
"""


def prepare_connection(connection: Connection, lock_timeout_ms: int) -> None:
    """Sets a connection up for posting: how long to wait for an account that another transaction holds, 0 for ever."""
    connection.execute("select set_config('lock_timeout', %s, false)", (str(lock_timeout_ms),))


def post(connection: Connection, events: Sequence[SpendEvent], now: datetime | None = None) -> list[Outcome]:
    """Posts the events, in order per account, each once and all or nothing; one outcome for each, in the same order.

    Raises one of TRANSIENT where another transaction was first: nothing was posted, and the caller posts again.
    """
    rows = connection.execute(_POST_ROWS, _columns(events, now)).fetchall() if events else []
    return [
        Outcome(events[ord_ - 1].event_id, events[ord_ - 1].account, outcome, balance, required, available, shortfall)
        for ord_, outcome, balance, required, available, shortfall in rows
    ]


def post_summarised(connection: Connection, events: Sequence[SpendEvent], now: datetime | None = None) -> BatchSummary:
    """As `post`, for a caller that needs only the counts and which events were not accepted."""
    if not events:
        return BatchSummary()
    rows = connection.execute(_POST_SUMMARY, _columns(events, now)).fetchall()
    return BatchSummary(
        counts={outcome: count for outcome, count, _ in rows},
        refused={outcome: [ord_ - 1 for ord_ in ords] for outcome, _, ords in rows if ords},
    )


def locked_accounts(connection: Connection, accounts: Collection[str]) -> set[str]:
    """Those of the accounts that another transaction keeps locked at this moment. Does not wait."""
    free = connection.execute(
        "select name from refill.account where name = any(%s) for no key update skip locked", (list(accounts),)
    ).fetchall()
    known = connection.execute("select name from refill.account where name = any(%s)", (list(accounts),)).fetchall()
    return {name for (name,) in known} - {name for (name,) in free}


def post_one(
    connection: Connection, event_id: str, account: str, amount: int, ref: str | None = None, memo: str | None = None
) -> Outcome:
    """Posts one event through the function that upstream calls, `refill.spend`.

    Raises Malformed where the id, the account or the amount cannot be posted by anyone.
    """
    again = Retrying(retry=retry_if_exception_type(TRANSIENT), stop=stop_after_attempt(_POST_ONE_TRIES), reraise=True)
    outcome, balance, required, available, shortfall = again(
        _call_spend, connection, (account, amount, event_id, ref, memo)
    )
    if outcome == "malformed":
        raise Malformed(
            f"a spend needs an id and an account of 1 to {ID_LENGTH_MAX} characters and an amount of 1 or more",
            event_id=event_id,
        )
    return Outcome(event_id, account, outcome, balance, required, available, shortfall)


def _call_spend(connection: Connection, values: tuple[object, ...]) -> TupleRow:
    with connection.transaction():
        return fetch_one(
            connection,
            "select outcome, balance, required, available, shortfall from refill.spend(%s, %s::bigint, %s, %s, %s)",
            values,
        )


def _columns(events: Sequence[SpendEvent], now: datetime | None) -> list[object]:
    """The events as columns. One that nobody filled is sent as null, which `unnest` pads with nulls for nothing."""
    columns = [list(column) for column in zip(*events, strict=True)]
    return [*columns[:3], *(column if any(column) else None for column in columns[3:]), now]
