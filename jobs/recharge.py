"""Evaluates accounts that are below their trigger, and reserves the charge where the decision is to recharge.

One evaluation is one transaction: it locks the card, then the accounts in id order, gathers facts, decides
(`decision`, pure), and writes what it decided. Throttle, caps and "one open charge per account" are therefore reserved
atomically with the attempt: two workers, or two accounts with one card, come one after the other.

When a card becomes free that several accounts of one organisation and program wait for, one attempt covers all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog
from psycopg.types.json import Jsonb

from jobs.decision import Decision, decide
from jobs.facts import Subject, card_to_bill, gather, lock_card
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.price import Price, price, split
from jobs.throttle import Limits

log = structlog.get_logger()

# A standing verdict (off, no card, paused) changes by an act that looks again at once; this is for one that forgot.
LOOK_AGAIN_AFTER: Final = timedelta(minutes=15)
CAP_WARNING: Final = (8, 10)  # said once a reservation takes a cap to four fifths
FIRST_CHECK: Final = timedelta(seconds=20)
LINES_MAX: Final = 100

# For the holder: no codes, and nothing of a report of loss or theft, which is for their issuer to say.
PAUSED_WORDS: Final = {
    "never": "its issuer does not accept payments with it any more",
    "needs_customer": "its issuer wants you to confirm the payment yourself",
    "new_details": "its details are no longer accepted; perhaps it has expired or was replaced",
    "breaker": "it was declined several times in a row",
    "declined": "it was declined several times in a row",
    "operator": "it was stopped by us; please ask us",
}

_TOLD: Final = {
    "card_cooling": "recharge.throttled",
    "card_attempts": "recharge.throttled",
    "cap_month": "recharge.capped",
    "cap_day": "recharge.capped",
    "paused": "recharge.paused",
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was decided for one account; `charge_id` where a charge was reserved that pays for it."""

    account_id: int
    decision: Decision
    charge_id: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One account of a charge that is about to be reserved."""

    subject: Subject
    decision: Decision


def evaluate(connection: Connection, account_id: int, limits: Limits, now: datetime | None = None) -> Evaluation:
    """Decides on one account, records the decision, and reserves a charge where it says so."""
    with connection.transaction():
        card = lock_card(connection, account_id)
        waiting = [] if card is None else _waiting_for(connection, account_id, card.fingerprint)
        connection.execute("select refill.lock_accounts(%s)", ([account_id, *waiting],))
        now = now or database_now(connection)
        connection.execute("select refill.expire_before_posting(%s, %s)", ([account_id, *waiting], now))
        if card_to_bill(connection, account_id) != card:  # changed while we waited for the lock: the poke comes again
            return _look_once_more(connection, account_id, now)
        subject = gather(connection, account_id, card, now)
        decision = decide(subject.facts, limits, now)
        if decision.verdict != "recharge":
            return _record(connection, subject, decision, now)
        lines = [Line(subject, decision), *_joining(connection, waiting, subject, limits, now)]
        return _reserve(connection, lines, now)


def due_accounts(connection: Connection, limit: int = 1000, now: datetime | None = None) -> list[int]:
    """Accounts below their trigger whose next look is due, the longest waiting first.

    Those that somebody else holds are left out: in a sweep that waited for each of them all others would wait too.
    """
    rows = connection.execute(
        "select account_id from refill.watch w join refill.account a using (account_id)"
        " where due_at <= coalesce(%s, (select clock_timestamp()))"
        " order by due_at, since limit %s for no key update of a skip locked",
        (now, limit),
    )
    return [account_id for (account_id,) in rows]


def _waiting_for(connection: Connection, account_id: int, fingerprint: str) -> list[int]:
    """Other accounts of the same organisation and program that were held back for this card and still wait."""
    rows = connection.execute(
        """
        select w.account_id
        from refill.watch w
        join refill.account a on a.account_id = w.account_id
        join refill.account b on b.organisation_id = a.organisation_id and b.program_id = a.program_id
        join lateral (
            select verdict, facts from refill.evaluation e
            where e.account_id = w.account_id order by evaluation_id desc limit 1
        ) last on last.verdict in ('card_cooling', 'card_attempts') and last.facts ->> 'fingerprint' = %(fingerprint)s
        where b.account_id = %(account_id)s and w.account_id <> b.account_id
        order by w.since, w.account_id limit %(most)s
        """,
        {"account_id": account_id, "fingerprint": fingerprint, "most": LINES_MAX - 1},
    )
    return [other for (other,) in rows]


def _joining(connection: Connection, waiting: list[int], first: Subject, limits: Limits, now: datetime) -> list[Line]:
    """The waiting accounts that may share the attempt: each by its own decision, with the same physical card."""
    lines = []
    for account_id in waiting:
        card = card_to_bill(connection, account_id)
        subject = gather(connection, account_id, card, now)
        decision = decide(subject.facts, limits, now)
        if decision.verdict == "recharge" and subject.fingerprint == first.fingerprint:
            lines.append(Line(subject, decision))
    return lines


def _reserve(connection: Connection, lines: list[Line], now: datetime) -> Evaluation:
    """Inserts the charge with its lines and its attempt, the request frozen; records the decision of each account."""
    facts = lines[0].subject.facts
    whole = price(facts.program, sum(line.decision.credits for line in lines))
    shares = split(whole, [line.decision.credits for line in lines])
    if len(lines) > 1 and not all(_fits(line, share) for line, share in zip(lines, shares, strict=True)):
        return _reserve(connection, lines[:1], now)  # rounding took a shared line over its cap: alone it fits
    charge_id = _insert_charge(connection, lines[0].subject, whole, now)
    for number, (line, share) in enumerate(zip(lines, shares, strict=True), start=1):
        connection.execute(
            """
            insert into refill.charge_line (charge_id, line, account_id, credits, net_minor, tax_minor, amount_minor)
            values (%s, %s, %s, %s, %s, %s, %s)
            """,
            (
                charge_id,
                number,
                line.subject.account_id,
                share.quantity,
                share.net.minor,
                share.tax.minor,
                share.gross.minor,
            ),
        )
    attempt_id = _insert_attempt(connection, charge_id, lines[0].subject, whole, now)
    for line, share in zip(lines, shares, strict=True):
        _tell_opened(connection, line, share, charge_id, attempt_id, now)
    return Evaluation(lines[0].subject.account_id, lines[0].decision, charge_id)


def _fits(line: Line, share: Price) -> bool:
    caps = (line.subject.facts.month, line.subject.facts.day)
    return all(cap.most is None or cap.used + share.gross.minor <= cap.most for cap in caps)


def _insert_charge(connection: Connection, subject: Subject, whole: Price, now: datetime) -> int:
    tax = subject.facts.program.tax
    row = fetch_one(
        connection,
        """
        insert into refill.charge (program_id, organisation_id, reason, fingerprint, payment_method, customer, currency,
                                   net_minor, tax_minor, amount_minor, tax, opened_at, next_check_at)
        select program_id, organisation_id, 'recharge', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
        from refill.account where account_id = %s
        returning charge_id
        """,
        (
            subject.fingerprint,
            subject.payment_method,
            subject.customer,
            whole.gross.currency,
            whole.net.minor,
            whole.tax.minor,
            whole.gross.minor,
            None if tax is None else Jsonb({"name": tax.name, "rate": tax.rate}),
            now,
            now + FIRST_CHECK,
            subject.account_id,
        ),
    )
    return int(row[0])


def _insert_attempt(connection: Connection, charge_id: int, subject: Subject, whole: Price, now: datetime) -> str:
    """The attempt with its request as it will be sent, the same bytes each time: ids and money, no names."""
    attempt_id = str(uuid4())
    request = {
        "amount": whole.gross.minor,
        "currency": whole.gross.currency.lower(),
        "customer": subject.customer,
        "payment_method": subject.payment_method,
        "allowed_payment_method_types": ["card"],
        "metadata": {
            "refill_attempt": attempt_id,
            "refill_charge": str(charge_id),
            "refill_installation": subject.installation,
        },
    }
    card = subject.facts.card
    connection.execute(
        "insert into refill.attempt (attempt_id, charge_id, fingerprint, is_reattempt, request, reserved_at)"
        " values (%s, %s, %s, %s, %s, %s)",
        (attempt_id, charge_id, subject.fingerprint, card is not None and card.was_declined, Jsonb(request), now),
    )
    return attempt_id


def _tell_opened(
    connection: Connection, line: Line, share: Price, charge_id: int, attempt_id: str, now: datetime
) -> None:
    data = {
        "charge_id": charge_id,
        "credits": share.quantity,
        "amount_minor": share.gross.minor,
        "currency": share.gross.currency,
    }
    connection.execute(
        "select refill.record_event('recharge.opened', %s, %s, %s)", (line.subject.account_id, now, Jsonb(data))
    )
    _record(connection, line.subject, line.decision, now, charge_id)
    log.info(
        "charge.reserved",
        charge_id=charge_id,
        attempt_id=attempt_id,
        account=line.subject.account,
        event_id=line.subject.event_id,
        fingerprint=line.subject.fingerprint,
        credits=share.quantity,
        amount_minor=share.gross.minor,
        currency=share.gross.currency,
    )
    _warn_of_caps(line, share)


def _warn_of_caps(line: Line, share: Price) -> None:
    part, of = CAP_WARNING
    for period, cap in (("month", line.subject.facts.month), ("day", line.subject.facts.day)):
        if cap.most is not None and (cap.used + share.gross.minor) * of >= cap.most * part:
            log.warning(
                "recharge.cap_neared",
                account=line.subject.account,
                period=period,
                used_minor=cap.used + share.gross.minor,
                cap_minor=cap.most,
            )


def _record(
    connection: Connection, subject: Subject, decision: Decision, now: datetime, charge_id: int | None = None
) -> Evaluation:
    """Writes an evaluation where its verdict or next time is new, else only that it was seen; tells what is new."""
    before = _last_verdict(connection, subject.account_id)
    is_new = charge_id is not None or before != (decision.verdict, decision.next_at)
    if is_new:
        _insert_evaluation(connection, subject, decision, now, charge_id)
    else:
        connection.execute(
            """
            update refill.evaluation set seen_at = %s where evaluation_id =
                (select max(evaluation_id) from refill.evaluation where account_id = %s)
            """,
            (now, subject.account_id),
        )
    _watch(connection, subject.account_id, decision, now)
    if is_new:
        _tell(connection, subject, decision, before[0] if before else None, charge_id, now)
    return Evaluation(subject.account_id, decision, charge_id)


def _insert_evaluation(
    connection: Connection, subject: Subject, decision: Decision, now: datetime, charge_id: int | None
) -> None:
    connection.execute(
        """
        insert into refill.evaluation
            (account_id, at, seen_at, projected, recharge_below, verdict, next_at, charge_id, facts)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            subject.account_id,
            now,
            now,
            subject.facts.projected,
            subject.facts.recharge_below,
            decision.verdict,
            decision.next_at,
            charge_id or subject.facts.open_charge_id,
            Jsonb(_explained(subject, decision)),
        ),
    )


def _explained(subject: Subject, decision: Decision) -> dict[str, object]:
    """What the decision rested on, for `refill explain`."""
    facts = subject.facts
    return {
        "event_id": subject.event_id,
        "reason": decision.reason,
        "balance": facts.balance,
        "pending": facts.pending,
        "enabled": facts.enabled,
        "amount": facts.amount,
        "target": facts.target,
        "credits": decision.credits,
        "fingerprint": None if facts.card is None else facts.card.fingerprint,
        "attempts_24h": None if facts.card is None else len(facts.card.attempts_24h),
        "cap_month": facts.month.most,
        "used_month": facts.month.used,
        "cap_day": facts.day.most,
        "used_day": facts.day.used,
    }


def _last_verdict(connection: Connection, account_id: int) -> tuple[str, datetime | None] | None:
    row = connection.execute(
        "select verdict::text, next_at from refill.evaluation where account_id = %s"
        " order by evaluation_id desc limit 1",
        (account_id,),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def _watch(connection: Connection, account_id: int, decision: Decision, now: datetime) -> None:
    """Leaves the account with the sweep until it is above its trigger, to be looked at when the decision says."""
    if decision.verdict == "above_trigger":
        connection.execute("delete from refill.watch where account_id = %s", (account_id,))
        return
    connection.execute(
        "insert into refill.watch (account_id, due_at, since, verdict) values (%s, %s, %s, %s)"
        " on conflict (account_id) do update set due_at = excluded.due_at, verdict = excluded.verdict",
        (account_id, decision.next_at or now + LOOK_AGAIN_AFTER, now, decision.verdict),
    )


def _tell(
    connection: Connection,
    subject: Subject,
    decision: Decision,
    before: str | None,
    charge_id: int | None,
    now: datetime,
) -> None:
    """The event, the message to the holder and the log line of a verdict that is new."""
    next_at = None if decision.next_at is None else decision.next_at.isoformat()
    data = {"verdict": decision.verdict, "reason": decision.reason, "next_at": next_at}
    event = _TOLD.get(decision.verdict)
    if event is not None:
        connection.execute("select refill.record_event(%s, %s, %s, %s)", (event, subject.account_id, now, Jsonb(data)))
    if decision.verdict == "paused" and before != "paused":
        stop = subject.facts.card.stop if subject.facts.card is not None else None
        reason = PAUSED_WORDS.get(stop or "", decision.reason)
        told = {"reason": reason, "brand": subject.brand, "last4": subject.last4}
        connection.execute(
            "select refill.enqueue_message(%s, 'paused', %s, %s, %s)",
            (subject.account_id, now, Jsonb(told), subject.fingerprint),
        )
    log.info(
        "recharge.decided",
        account=subject.account,
        event_id=subject.event_id,
        charge_id=charge_id or subject.facts.open_charge_id,
        verdict=decision.verdict,
        reason=decision.reason,
        projected=subject.facts.projected,
        recharge_below=subject.facts.recharge_below,
        next_at=next_at,
    )


def _look_once_more(connection: Connection, account_id: int, now: datetime) -> Evaluation:
    connection.execute("select refill.watch_account(%s, %s)", (account_id, now))
    return Evaluation(account_id, Decision("charge_open", "the card was changed at this moment"))
