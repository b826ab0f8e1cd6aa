"""How a charge ends: settled, declined, cancelled, or handed to a person. Each ending is one transaction.

The same `settle` serves an answer of the processor, one that was read later, and one that was located: it locks the
charge, does nothing where it has ended already, and compares amount, currency and status before any credit is
granted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog
from psycopg.types.json import Jsonb

from jobs.declines import Action, Decline, Meaning, Step, classify, next_step
from jobs.gateway.stripe import Intent
from jobs.invoice import Buyer, InvoiceLine, issue
from jobs.ledger.database import Connection, fetch_one
from jobs.program import Program, from_json, lot_expiry
from jobs.throttle import Limits

log = structlog.get_logger()

REVIEW_EVERY: Final = timedelta(hours=1)  # what a person clears up at the processor is then seen here
ENDED: Final = frozenset({"needs_customer", "succeeded", "declined", "cancelled"})


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge as it is locked by the ending transaction; money in minor units."""

    charge_id: int
    state: str
    reason: str
    organisation: str
    program: Program
    fingerprint: str
    payment_intent: str | None
    currency: str
    amount: int
    tax: dict[str, str] | None
    brand: str
    last4: str


def settle(connection: Connection, charge_id: int, intent: Intent, now: datetime) -> str:
    """Grants what was paid for, invoices it and tells everybody; returns the state. A second call changes nothing."""
    with connection.transaction():
        charge = lock_charge(connection, charge_id)
        if charge.state in ENDED:
            return charge.state
        mismatch = _mismatch(charge, intent)
        if mismatch is not None:
            return _hand_over(connection, charge, mismatch, now)
        return _grant(connection, charge, now)


def decline(connection: Connection, charge_id: int, said: Decline, limits: Limits, now: datetime) -> str:
    """Ends a charge that the card refused: what it means for the card, and who is told. Returns the state."""
    with connection.transaction():
        charge = lock_charge(connection, charge_id)
        if charge.state in ENDED:
            return charge.state
        said = Decline(**{**asdict(said), "brand": charge.brand})
        meaning = classify(said)
        consecutive = _consecutive_declines(connection, charge.fingerprint) + 1
        step = next_step(meaning, consecutive, now)
        _lock_lines(connection, charge_id)
        if meaning.action is Action.RECONCILE:
            # The intent is cancelled and takes no money; which other payment the issuer means is for a person to
            # find, and until then nobody pays with this card.
            _stop_card(connection, charge, meaning, replace(step, pause=True), consecutive, limits, now)
            log.error("card.needs_operator", fingerprint=charge.fingerprint, charge_id=charge_id, reason=meaning.reason)
            return _end_cancelled(connection, charge, meaning.reason, now, is_unsent=False)
        _stop_card(connection, charge, meaning, step, consecutive, limits, now)
        return _end_declined(connection, charge, said, meaning, step, now)


def cancel(connection: Connection, charge_id: int, detail: str, now: datetime, *, is_unsent: bool) -> str:
    """Ends a charge that provably takes no money: its place under the caps is given back.

    Its place under the card's throttle is given back only where the card provably never saw it (`is_unsent`).
    """
    with connection.transaction():
        charge = lock_charge(connection, charge_id)
        if charge.state in ENDED:
            return charge.state
        _lock_lines(connection, charge_id)
        return _end_cancelled(connection, charge, detail, now, is_unsent=is_unsent)


def hand_over(connection: Connection, charge_id: int, detail: str, now: datetime) -> str:
    """Leaves an open charge to a person, with the reason: nothing is charged on its accounts until it is cleared
    up."""
    with connection.transaction():
        charge = lock_charge(connection, charge_id)
        return charge.state if charge.state in ENDED else _hand_over(connection, charge, detail, now)


def lock_charge(connection: Connection, charge_id: int) -> Charge:
    """The charge, locked until the transaction ends."""
    row = fetch_one(
        connection,
        """
        select c.state::text, c.reason, o.name, p.terms::text, c.fingerprint, c.payment_intent, c.currency,
               c.amount_minor, c.tax, coalesce(k.brand, ''), coalesce(k.last4, '')
        from refill.charge c
        join refill.program p on p.program_id = c.program_id
        join refill.organisation o on o.organisation_id = c.organisation_id
        left join lateral (
            select brand, last4 from refill.card where fingerprint = c.fingerprint order by card_id desc limit 1
        ) k on true
        where c.charge_id = %s for no key update of c
        """,
        (charge_id,),
    )
    state, reason, organisation, terms, *rest = row
    return Charge(charge_id, state, reason, organisation, from_json(terms), *rest)


def _end_cancelled(connection: Connection, charge: Charge, detail: str, now: datetime, *, is_unsent: bool) -> str:
    connection.execute(
        "update refill.attempt set state = %s, finished_at = %s where charge_id = %s and state in ('reserved', 'sent')",
        ("released" if is_unsent else "cancelled", now, charge.charge_id),
    )
    _end(connection, charge.charge_id, "cancelled", now, detail=detail)
    for account_id, _ in _lines(connection, charge.charge_id):
        _look_again(connection, account_id, now)
    log.warning("charge.cancelled", charge_id=charge.charge_id, fingerprint=charge.fingerprint, reason=detail)
    return "cancelled"


def _mismatch(charge: Charge, intent: Intent) -> str | None:
    asked = (charge.payment_intent, charge.amount, charge.currency, "succeeded")
    answered = (intent.intent_id, intent.amount, intent.currency, intent.status)
    return None if asked == answered else f"the processor shows {answered}, the charge is {asked}"


def _grant(connection: Connection, charge: Charge, now: datetime) -> str:
    lines = _lines(connection, charge.charge_id)
    connection.execute(
        "update refill.attempt set state = 'succeeded', finished_at = %s"
        " where charge_id = %s and state in ('reserved', 'sent')",
        (now, charge.charge_id),
    )
    _end(connection, charge.charge_id, "succeeded", now)
    _clear_card(connection, charge.fingerprint, now)
    expires_at = lot_expiry(charge.program, now) if charge.program.expiry.kind == "fixed" else None
    granted = connection.execute(
        "select account_id, lot_id, balance from refill.post_grants(%s, %s, %s, %s, %s, %s, null, null, 'refill', %s)",
        (
            [account_id for account_id, _ in lines],
            [line.credits for _, line in lines],
            ["infinity" if expires_at is None else expires_at.isoformat()] * len(lines),
            [line.gross for _, line in lines],
            charge.reason,
            charge.charge_id,
            now,
        ),
    ).fetchall()
    buyer = Buyer(charge.charge_id, charge.organisation, charge.tax)
    invoice_number = issue(connection, buyer, charge.program, [line for _, line in lines], now)
    lots = {account_id: lot_id for account_id, lot_id, _ in granted}
    for account_id, line in lines:
        _tell_success(connection, charge, account_id, line, lots[account_id], invoice_number, now)
    return "succeeded"


def _tell_success(
    connection: Connection,
    charge: Charge,
    account_id: int,
    line: InvoiceLine,
    lot_id: int,
    invoice_number: str,
    now: datetime,
) -> None:
    data = {
        "charge_id": charge.charge_id,
        "credits": line.credits,
        "amount_minor": line.gross,
        "currency": charge.currency,
        "invoice_number": invoice_number,
        "lot_id": lot_id,
        "brand": charge.brand,
        "last4": charge.last4,
    }
    connection.execute(
        "update refill.charge_line set lot_id = %s where charge_id = %s and account_id = %s",
        (lot_id, charge.charge_id, account_id),
    )
    event = "recharge.succeeded" if charge.reason == "recharge" else "purchase.succeeded"
    connection.execute("select refill.record_event(%s, %s, %s, %s)", (event, account_id, now, Jsonb(data)))
    (message_id,) = fetch_one(
        connection,
        "select refill.enqueue_message(%s, 'recharge_succeeded', %s, %s, %s)",
        (account_id, now, Jsonb(data), charge.fingerprint),
    )
    _look_again(connection, account_id, now)
    log.info(
        "charge.settled",
        charge_id=charge.charge_id,
        payment_intent=charge.payment_intent,
        account=line.account,
        credits=line.credits,
        amount_minor=line.gross,
        currency=charge.currency,
        lot_id=lot_id,
        invoice_number=invoice_number,
        message_id=str(message_id),
    )


def _end_declined(
    connection: Connection, charge: Charge, said: Decline, meaning: Meaning, step: Step, now: datetime
) -> str:
    state = "needs_customer" if meaning.action.name == "NEEDS_CUSTOMER" else "declined"
    connection.execute(
        "update refill.attempt set state = %s, finished_at = %s, decline = %s, next_attempt_at = %s"
        " where charge_id = %s and state in ('reserved', 'sent')",
        (state, now, Jsonb(asdict(said)), step.not_before, charge.charge_id),
    )
    _end(
        connection, charge.charge_id, state, now, signal=said.decline_code or said.code or state, detail=meaning.reason
    )
    data = {
        "charge_id": charge.charge_id,
        "amount_minor": charge.amount,
        "currency": charge.currency,
        "reason": meaning.words,
        "decline": said.decline_code or said.code,
        "next_attempt_at": None if step.not_before is None else step.not_before.isoformat(),
        "brand": charge.brand,
        "last4": charge.last4,
    }
    for account_id, _ in _lines(connection, charge.charge_id):
        connection.execute(
            "select refill.record_event('recharge.declined', %s, %s, %s)", (account_id, now, Jsonb(data))
        )
        # A pause tells the holder in words of its own, once for each account, when that account is next evaluated.
        if step.tell_holder and not step.pause:
            connection.execute(
                "select refill.enqueue_message(%s, 'declined', %s, %s, %s)",
                (account_id, now, Jsonb(data), charge.fingerprint),
            )
        _look_again(connection, account_id, now)
    log.warning(
        "charge.declined",
        charge_id=charge.charge_id,
        fingerprint=charge.fingerprint,
        decline=said.decline_code or said.code,
        action=meaning.action.name.lower(),
        reason=meaning.reason,
        next_at=None if step.not_before is None else step.not_before.isoformat(),
    )
    return state


def _stop_card(
    connection: Connection,
    charge: Charge,
    meaning: Meaning,
    step: Step,
    consecutive: int,
    limits: Limits,
    now: datetime,
) -> None:
    """Writes what the decline means for the physical card. A stop becomes stricter by a later decline, never
    milder."""
    stop, reason = None, None
    if step.block or step.pause:
        stop = {"RETRY": "declined", "RECONCILE": "operator"}.get(meaning.action.name, meaning.action.name.lower())
        reason = meaning.words
    elif consecutive >= limits.breaker_declines:
        stop, reason = "breaker", f"{consecutive} declines in a row, the last: {meaning.words}"
    if stop is not None:
        log.warning("card.stopped", fingerprint=charge.fingerprint, stop=stop, reason=reason)
    if step.tell_operator:
        log.error("card.needs_operator", fingerprint=charge.fingerprint, charge_id=charge.charge_id, reason=reason)
    connection.execute(
        """
        insert into refill.card_state as s
            (fingerprint, consecutive_declines, not_before, stop, stop_reason, stopped_at, updated_at)
        values (%(fingerprint)s, %(consecutive)s, coalesce(%(not_before)s, '-infinity'::timestamptz), %(stop)s,
                %(reason)s, case when %(stop)s::text is not null then %(now)s::timestamptz end, %(now)s)
        on conflict (fingerprint) do update set
            consecutive_declines = excluded.consecutive_declines,
            not_before = greatest(s.not_before, excluded.not_before),
            stop = case when excluded.stop = 'never' then excluded.stop else coalesce(s.stop, excluded.stop) end,
            stop_reason = case when excluded.stop = 'never' then excluded.stop_reason
                               else coalesce(s.stop_reason, excluded.stop_reason) end,
            stopped_at = coalesce(s.stopped_at, excluded.stopped_at),
            updated_at = excluded.updated_at
        """,
        {
            "fingerprint": charge.fingerprint,
            "consecutive": consecutive,
            "not_before": step.not_before,
            "stop": stop,
            "reason": reason,
            "now": now,
        },
    )


def _clear_card(connection: Connection, fingerprint: str, now: datetime) -> None:
    """A success ends a row of declines. A stop stays: it ends with another card, or by a person."""
    connection.execute(
        "update refill.card_state set consecutive_declines = 0, not_before = '-infinity', updated_at = %s"
        " where fingerprint = %s",
        (now, fingerprint),
    )


def _hand_over(connection: Connection, charge: Charge, detail: str, now: datetime) -> str:
    connection.execute(
        "update refill.charge set state = 'needs_review', detail = %s, next_check_at = %s where charge_id = %s",
        (detail, now + REVIEW_EVERY, charge.charge_id),
    )
    log.error(
        "charge.needs_review",
        charge_id=charge.charge_id,
        payment_intent=charge.payment_intent,
        amount_minor=charge.amount,
        currency=charge.currency,
        reason=detail,
    )
    return "needs_review"


def _end(
    connection: Connection,
    charge_id: int,
    state: str,
    now: datetime,
    *,
    signal: str | None = None,
    detail: str | None = None,
) -> None:
    connection.execute(
        """
        update refill.charge
        set state = %(state)s::refill.charge_state,
            settled_at = case when %(state)s::text = 'succeeded' then %(now)s::timestamptz end,
            ended_at = %(now)s, next_check_at = 'infinity', decline = %(signal)s, detail = %(detail)s
        where charge_id = %(charge_id)s
        """,
        {"state": state, "now": now, "signal": signal, "detail": detail, "charge_id": charge_id},
    )


def _lines(connection: Connection, charge_id: int) -> list[tuple[int, InvoiceLine]]:
    rows = connection.execute(
        """
        select l.account_id, a.name, l.credits, l.net_minor, l.tax_minor, l.amount_minor
        from refill.charge_line l join refill.account a using (account_id) where l.charge_id = %s order by
        l.account_id
        """,
        (charge_id,),
    ).fetchall()
    return [(account_id, InvoiceLine(*rest)) for account_id, *rest in rows]


def _lock_lines(connection: Connection, charge_id: int) -> None:
    """Locks the accounts of a charge, as a grant does, so that an evaluation of them comes before or after."""
    connection.execute(
        "select refill.lock_accounts(array(select account_id from refill.charge_line where charge_id = %s))",
        (charge_id,),
    )


def _consecutive_declines(connection: Connection, fingerprint: str) -> int:
    row = connection.execute(
        "select consecutive_declines from refill.card_state where fingerprint = %s", (fingerprint,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _look_again(connection: Connection, account_id: int, now: datetime) -> None:
    connection.execute("select refill.watch_account(%s, %s)", (account_id, now))
