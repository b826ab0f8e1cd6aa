"""Why an account was recharged, or was not, at any moment: gathers everything that bears on it.

For the present the decision is made afresh from the facts, so that it holds even where no worker runs; for a moment in
the past it is the one that was recorded then. `verdict` says the answer in a sentence.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg.rows import class_row

from jobs import program_store
from jobs.account import Account, find
from jobs.archived import hold_months
from jobs.decision import decide
from jobs.declines import Decline, classify
from jobs.evidence import (
    AttemptLine,
    CardLine,
    ChargeLine,
    DecisionLine,
    Explanation,
    MessageLine,
    PolicyChange,
    PolicyLine,
    Ruling,
)
from jobs.facts import card_to_bill, gather
from jobs.history import HistoryRow, Period, rows
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.money import Money, parse_money
from jobs.policy import tier_of
from jobs.policy_store import show as show_policy
from jobs.program import Program
from jobs.standing import Standing, standing, standing_at
from jobs.throttle import Limits
from jobs.verdict import sentence

DECISIONS_SHOWN: Final = 6
LATER_SHOWN: Final = 2
CHARGES_SHOWN: Final = 4
ATTEMPTS_SHOWN: Final = 8
MESSAGES_SHOWN: Final = 5
ENTRIES_SHOWN: Final = 8
CHANGES_SHOWN: Final = 3

_SETTINGS: Final = ("enabled", "recharge_below", "alert_below", "amount", "target", "cap_month", "cap_day")
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


def explain(connection: Connection, name: str, limits: Limits, at: datetime | None = None) -> Explanation:
    """The answer for an account as it stands, or as it stood `at` a moment in the past; all of one snapshot.

    Raises `UnknownAccount`.
    """
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        hold_months(connection)
        holder = find(connection, name)
        program = program_store.find(connection, holder.program).program
        moment = database_now(connection) if at is None else at
        gathered = _gather(connection, holder, program, limits, moment, is_past=at is not None)
    return replace(gathered, sentence=sentence(gathered))


def _gather(
    connection: Connection, holder: Account, program: Program, limits: Limits, at: datetime, *, is_past: bool
) -> Explanation:
    stands = (standing_at if is_past else standing)(connection, holder.account_id, at)
    policy = _policy_at(connection, holder, program, at, is_past=is_past)
    levels = {line.name: line.value for line in policy}
    recharge_below, alert_below = _level(levels["recharge_below"]), _level(levels["alert_below"])
    decisions = _decisions(connection, holder.account_id, at)
    card = _card(connection, holder, program, at)
    opened_at, due_at = fetch_one(connection, _OPENED_AND_DUE, {"account_id": holder.account_id})
    return Explanation(
        sentence="",
        account=holder.name,
        organisation=holder.organisation,
        program=program,
        tier=holder.tier,
        at=at,
        is_past=is_past,
        opened_at=opened_at,
        closed_at=holder.closed_at,
        state=_state(stands, alert_below),
        standing=stands,
        recharge_below=recharge_below,
        alert_below=alert_below,
        due_at=due_at,
        ruling=_recorded(decisions) if is_past else _afresh(connection, holder, stands, limits, at),
        policy=policy,
        changes=_changes(connection, holder.account_id, at),
        card=card,
        decisions=decisions,
        charges=_charges(connection, holder.account_id, at),
        attempts=() if card is None else _attempts(connection, card.fingerprint, at),
        messages=_messages(connection, holder.account_id, at),
        entries=_entries(connection, holder.name, at),
    )


def _state(stands: Standing, alert_below: int | None) -> str:
    if stands.balance == 0:
        return "depleted"
    return "low" if stands.balance < (alert_below or 0) else "ok"


def _level(value: int | Money | bool | None) -> int | None:
    return value if isinstance(value, int) else None


def _afresh(connection: Connection, holder: Account, stands: Standing, limits: Limits, now: datetime) -> Ruling:
    """What would be decided now; dead credit that no posting has booked yet does not count."""
    card = card_to_bill(connection, holder.account_id)
    facts = replace(gather(connection, holder.account_id, card, now).facts, balance=stands.balance)
    decision = decide(facts, limits, now)
    return Ruling(
        decision.verdict, decision.reason, decision.next_at, decision.credits, facts.open_charge_id, decided_at=None
    )


def _recorded(decisions: tuple[DecisionLine, ...]) -> Ruling | None:
    last = next((decision for decision in decisions if not decision.is_later), None)
    if last is None:
        return None
    return Ruling(last.verdict, last.reason, last.next_at, 0, last.charge_id, last.at)


def _policy_at(
    connection: Connection, holder: Account, program: Program, at: datetime, *, is_past: bool
) -> tuple[PolicyLine, ...]:
    """The policy in effect: the first change after the moment says what was before it; without one it is today's."""
    changed = connection.execute(_FIRST_CHANGE_AFTER, (holder.account_id, at)).fetchone() if is_past else None
    if changed is not None:
        return tuple(_kept_line(changed[0], name, program) for name in _SETTINGS)
    policy = show_policy(connection, holder.name).effective
    settings = {name: getattr(policy, name) for name in _SETTINGS}
    return tuple(PolicyLine(name, one.value, one.source, one.locked) for name, one in settings.items())


def _kept_line(effective: dict[str, Any], name: str, program: Program) -> PolicyLine:
    """A setting as a change kept it: money as text with its currency, nothing at all where there was none."""
    kept = effective.get(name, {"value": None, "source": "program"})
    value = parse_money(kept["value"], program.currency) if isinstance(kept["value"], str) else kept["value"]
    return PolicyLine(name, value, kept["source"], locked=False)


def _changes(connection: Connection, account_id: int, at: datetime) -> tuple[PolicyChange, ...]:
    found = connection.execute(_CHANGES, {"account_id": account_id, "at": at, "shown": CHANGES_SHOWN})
    return tuple(PolicyChange(*row) for row in found)


def _card(connection: Connection, holder: Account, program: Program, at: datetime) -> CardLine | None:
    payer = tier_of(program, holder.tier).bills
    scope = {"account_id": holder.account_id, "at": at, "payer": payer}
    with connection.cursor(row_factory=class_row(CardLine)) as cursor:
        return cursor.execute(_CARD, scope).fetchone()


def _decisions(connection: Connection, account_id: int, at: datetime) -> tuple[DecisionLine, ...]:
    scope = {"account_id": account_id, "at": at, "shown": DECISIONS_SHOWN, "later": LATER_SHOWN}
    with connection.cursor(row_factory=class_row(DecisionLine)) as cursor:
        return tuple(cursor.execute(_DECISIONS, scope))


def _charges(connection: Connection, account_id: int, at: datetime) -> tuple[ChargeLine, ...]:
    found = connection.execute(_CHARGES, {"account_id": account_id, "at": at, "shown": CHARGES_SHOWN})
    return tuple(
        ChargeLine(charge_id, reason, state, credits_, Money(amount, currency), Money(total, currency), *rest)
        for charge_id, reason, state, credits_, amount, total, currency, *rest in found
    )


def _attempts(connection: Connection, fingerprint: str, at: datetime) -> tuple[AttemptLine, ...]:
    """The attempts on the physical card up to the moment, of whichever accounts: they are what holds it back."""
    found = connection.execute(_ATTEMPTS, {"fingerprint": fingerprint, "at": at, "shown": ATTEMPTS_SHOWN})
    return tuple(
        AttemptLine(
            attempt_id, charge_id, tuple(names), state, is_reattempt, reserved_at, sent_at, finished_at,
            _code(said), _meaning(said), next_attempt_at,
        )
        for (
            attempt_id, charge_id, names, state, is_reattempt, reserved_at, sent_at, finished_at, said, next_attempt_at
        ) in found
    )  # fmt: skip


def _code(said: dict[str, Any] | None) -> str | None:
    return None if said is None else said.get("decline_code") or said.get("code")


def _meaning(said: dict[str, Any] | None) -> str | None:
    """What the signals mean, without their names: ``the card has expired; the issuer allows a later try``."""
    if said is None:
        return None
    signals = classify(Decline(**said)).reason.split("; ")
    return "; ".join(signal.split(": ", 1)[-1] for signal in signals)


def _messages(connection: Connection, account_id: int, at: datetime) -> tuple[MessageLine, ...]:
    scope = {"account_id": account_id, "at": at, "shown": MESSAGES_SHOWN}
    with connection.cursor(row_factory=class_row(MessageLine)) as cursor:
        return tuple(cursor.execute(_MESSAGES, scope))


def _entries(connection: Connection, name: str, at: datetime) -> tuple[HistoryRow, ...]:
    until = at + timedelta(microseconds=1)
    return tuple(rows(connection, [name], Period(_BEGINNING, until), ENTRIES_SHOWN))


_OPENED_AND_DUE: Final = """
select a.opened_at, w.due_at from refill.account a left join refill.watch w using (account_id)
where a.account_id = %(account_id)s
"""

_FIRST_CHANGE_AFTER: Final = """
select before -> 'effective' from refill.policy_change where account_id = %s and at > %s order by at limit 1
"""

_CHANGES: Final = """
select at, actor, after -> 'own' as after, at > %(at)s as is_later
from refill.policy_change where account_id = %(account_id)s order by at desc limit %(shown)s
"""

_CARD: Final = """
select c.fingerprint, c.brand, c.last4, %(payer)s::text as payer, s.stop, s.stop_reason,
       nullif(s.not_before, '-infinity') as not_before
from refill.account a
join refill.account p on (%(payer)s = 'own' and p.account_id = a.account_id)
    or (%(payer)s = 'manager' and p.is_system
        and p.organisation_id = a.organisation_id and p.program_id = a.program_id)
join refill.card c on c.account_id = p.account_id and c.added_at <= %(at)s
    and (c.removed_at is null or c.removed_at > %(at)s)
left join refill.card_state s on s.fingerprint = c.fingerprint
where a.account_id = %(account_id)s
order by c.added_at desc limit 1
"""

_DECISIONS: Final = """
select evaluation_id, at, seen_at, verdict::text as verdict, coalesce(facts ->> 'reason', '') as reason, projected,
       recharge_below, next_at, charge_id, at > %(at)s as is_later
from (
    (select * from refill.evaluation where account_id = %(account_id)s and at > %(at)s
     order by evaluation_id limit %(later)s)
    union all
    (select * from refill.evaluation where account_id = %(account_id)s and at <= %(at)s
     order by evaluation_id desc limit %(shown)s)
) e order by evaluation_id desc
"""

_CHARGES: Final = """
select c.charge_id, c.reason, c.state::text, l.credits, l.amount_minor, c.amount_minor, c.currency, c.opened_at,
       c.first_sent_at, c.ended_at, nullif(c.next_check_at, 'infinity'), c.detail, i.invoice_number, c.payment_intent,
       l.lot_id
from refill.charge_line l join refill.charge c using (charge_id) left join refill.invoice i using (charge_id)
where l.account_id = %(account_id)s and c.opened_at <= %(at)s
order by l.charge_id desc limit %(shown)s
"""

_ATTEMPTS: Final = """
select t.attempt_id::text, t.charge_id,
       array(select a.name::text from refill.charge_line l join refill.account a using (account_id)
             where l.charge_id = t.charge_id order by l.line),
       t.state, t.is_reattempt, t.reserved_at, t.sent_at, t.finished_at, t.decline, t.next_attempt_at
from refill.attempt t
where t.fingerprint = %(fingerprint)s and t.reserved_at <= %(at)s
order by t.reserved_at desc limit %(shown)s
"""

_MESSAGES: Final = """
select message_id::text as message_id, kind, state, regexp_replace(to_address, '^(.).*@', '\\1***@') as to_address,
       created_at, sent_at, case when state = 'pending' then next_at end as next_at, attempts, last_error
from refill.message where account_id = %(account_id)s and created_at <= %(at)s
order by created_at desc limit %(shown)s
"""
