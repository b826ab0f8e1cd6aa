"""Sends a trace into the stream as spend events, the same ones each time, and waits for what became of them.

Which account a row belongs to is drawn by a seeded, skewed lot: a few accounts spend most, as in life. The id of an
event is made of the trace's content, the way it is dealt out and the row's number. So the same replay is the same
events, and the ledger, which knows them, posts nothing twice; even where accounts were opened or closed in between,
when a row may fall to another account and is then refused as a conflict.
"""

from __future__ import annotations

import hashlib
import random
import time
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import redis
from redis.typing import EncodableT, FieldT

from jobs.errors import RefillError, Refused, UnknownProgram
from jobs.ledger.database import Connection
from worker.stream import GROUP, STREAM, id_order
from worker.trace import Trace
from worker.trim import KEPT

SKEW: Final = 1.1  # of Zipf's law: the k-th account is drawn in proportion to 1 / k ** SKEW
CHUNK: Final = 1_000
STREAM_LENGTH_MAX: Final = KEPT + 200_000  # beyond it, sending waits for the intake to post and trim
SILENCE_S_MAX: Final = 60.0
_LOOK_S: Final = 0.1


class TooFewAccounts(Refused):
    """The program has fewer open accounts than the replay asks for."""

    code = "too_few_accounts"


class IntakeSilent(RefillError):
    """Nothing reads the stream of spend events; is `refill intake` running?"""

    code = "intake_silent"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One event to send, and how many seconds after the first of the trace it happened."""

    fields: Mapping[FieldT, EncodableT]
    after_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All events of a replay, and what their ids have in common."""

    prefix: str
    events: Sequence[Replayed]


@dataclass(frozen=True, slots=True)
class OutcomeTotal:
    """How many events of a replay had one outcome, and how many credits they asked for."""

    outcome: str
    count: int
    credits: int


def accounts_of(connection: Connection, program: str, count: int, prefix: str = "") -> list[str]:
    """The first `count` open accounts of the program by name, of those whose names start with `prefix`.

    Raises UnknownProgram and TooFewAccounts.
    """
    if connection.execute("select 1 from refill.program where name = %s", (program,)).fetchone() is None:
        raise UnknownProgram(f"There is no program {program}.", program=program)
    rows = connection.execute(
        """
        select a.name from refill.account a join refill.program p using (program_id)
        where p.name = %s and a.closed_at is null and starts_with(a.name, %s) order by a.name limit %s
        """,
        (program, prefix, count),
    ).fetchall()
    if len(rows) < count:
        raise TooFewAccounts(f"{program} has {len(rows)} such open accounts, not {count}.", found=len(rows))
    return [name for (name,) in rows]


def plan_replay(trace: Trace, accounts: Sequence[str], program: str, seed: int, account_prefix: str = "") -> Plan:
    """Deals the rows of the trace out to the accounts; pure, the same for the same arguments."""
    key = "\n".join([trace.fingerprint, program, str(len(accounts)), account_prefix, str(seed)])
    prefix = f"replay-{hashlib.sha256(key.encode()).hexdigest()[:20]}-"
    draw = random.Random(key).random  # noqa: S311  a lot that can be drawn again, not a secret
    weights = list(accumulate(1 / rank**SKEW for rank in range(1, len(accounts) + 1)))
    first = next((row.at for row in trace.rows if row.at), None)
    events = []
    for row in trace.rows:
        account = accounts[min(bisect(weights, draw() * weights[-1]), len(accounts) - 1)]
        fields: dict[FieldT, EncodableT] = {"id": f"{prefix}{row.number}", "account": account, "amount": row.amount}
        if row.at is not None:
            fields["at"] = row.at.isoformat()
        events.append(Replayed(fields, (row.at - first).total_seconds() if row.at and first else 0.0))
    return Plan(prefix, events)


def send(client: redis.Redis, plan: Plan, speed: float | None, on_sent: Callable[[int], None]) -> str:
    """Adds the events to the stream, `speed` times as fast as they happened or, for None, as fast as it goes.

    Returns the stream id of the last one. Waits while the stream is full; raises IntakeSilent where that does not end.
    """
    last_id = b""
    for chunk in _chunks(plan.events, speed):
        _wait_for_room(client)
        with client.pipeline(transaction=False) as pipeline:
            for event in chunk:
                pipeline.xadd(STREAM, dict(event.fields))
            last_id = pipeline.execute()[-1]
        on_sent(len(chunk))
    return last_id.decode()


def _chunks(events: Sequence[Replayed], speed: float | None) -> Iterator[Sequence[Replayed]]:
    if speed is None:
        yield from (events[start : start + CHUNK] for start in range(0, len(events), CHUNK))
        return
    began, sent = time.monotonic(), 0
    while sent < len(events):
        _sleep_until(began + events[sent].after_s / speed)
        now_s, end = (time.monotonic() - began) * speed, sent + 1
        while end < len(events) and end - sent < CHUNK and events[end].after_s <= now_s:
            end += 1
        yield events[sent:end]
        sent = end


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _wait_for_room(client: redis.Redis) -> None:
    shortest, patience_ends = STREAM_LENGTH_MAX, 0.0
    while (length := _length(client)) > STREAM_LENGTH_MAX:
        if length < shortest or not patience_ends:
            shortest, patience_ends = length, time.monotonic() + SILENCE_S_MAX
        if time.monotonic() > patience_ends:
            raise IntakeSilent(f"The stream holds {length} events and nothing reads it; is `refill intake` running?")
        time.sleep(_LOOK_S)


def _length(client: redis.Redis) -> int:
    reply: Any = client.xlen(STREAM)
    return int(reply)


def wait_for_outcomes(
    connection: Connection, client: redis.Redis, plan: Plan, last_id: str, on_known: Callable[[int], None]
) -> list[OutcomeTotal]:
    """What became of the events, once the intake is done with all that was sent.

    Raises IntakeSilent where nothing moves for SILENCE_S_MAX seconds.
    """
    seen, patience_ends = None, time.monotonic() + SILENCE_S_MAX
    while True:
        done = _is_done(client, last_id)
        totals = outcome_totals(connection, plan)
        known = sum(total.count for total in totals)
        on_known(known)
        if done:
            return totals
        position = (known, _position(client))
        if position != seen:
            seen, patience_ends = position, time.monotonic() + SILENCE_S_MAX
        if time.monotonic() > patience_ends:
            raise IntakeSilent(
                f"{known} of {len(plan.events)} outcomes are known and no more come; is `refill intake` running?"
            )
        time.sleep(_LOOK_S)


def outcome_totals(connection: Connection, plan: Plan) -> list[OutcomeTotal]:
    """The outcomes that the ledger has of this replay's events by now, conflicts among them."""
    rows = connection.execute(
        """
        select outcome::text, count(*), sum(amount)::bigint from refill.spend_event
        where event_id >= %(from)s and event_id < %(to)s group by outcome
        order by outcome
        """,
        {"from": plan.prefix, "to": plan.prefix[:-1] + chr(ord("-") + 1)},
    ).fetchall()
    return [OutcomeTotal(*row) for row in rows]


def conflicts(connection: Connection, plan: Plan) -> int:
    """How many of this replay's events are in quarantine because they contradict an earlier one of their id."""
    (count,) = connection.execute(
        "select count(*) from refill.quarantine where reason = 'conflict' and starts_with(fields->0->>'value', %s)",
        (plan.prefix,),
    ).fetchall()[0]
    return int(count)


def _is_done(client: redis.Redis, last_id: str) -> bool:
    """Whether the group was given everything up to this id and acknowledged it."""
    group = _group(client)
    if group is None or id_order(group["last-delivered-id"]) < id_order(last_id.encode()):
        return False
    pending: Any = client.xpending(STREAM, GROUP) if group["pending"] else {"min": None}
    return pending["min"] is None or id_order(pending["min"]) > id_order(last_id.encode())


def _position(client: redis.Redis) -> tuple[bytes, int]:
    group = _group(client)
    return (group["last-delivered-id"], group["pending"]) if group else (b"", 0)


def _group(client: redis.Redis) -> Any:
    groups: Any = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
    return next((group for group in groups if group["name"] == GROUP.encode()), None)
