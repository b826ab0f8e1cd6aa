"""Drives a charge from its reservation to its end, so that a card is never charged twice and never forgotten.

    reserved --create--> created --confirm--> confirming --> succeeded | declined | needs_customer
        |                   |                     |--------> processing --> succeeded | declined
        |                   |                     `--------> unknown -----> whatever reading the intent shows
        `-------------------`--- cancelled (provably unsent)                `--> needs_review (a person must look)

What a kill, a lost answer or a duplicate does at each step:

- after the reservation: the sweep creates the intent under the same key; an unconfirmed intent moves no money.
- after create, before its id is stored: the same key gives the same intent.
- after `confirming` is committed: the intent is **read**, never guessed. `requires_confirmation` means not tried, and
  it is confirmed again; a payment intent succeeds at most once, whatever the number of confirmations.
- after the processor's success, before our commit: the same reading settles it.
- two workers at one charge: a session lock lets one through, and the ending transaction locks the row and compares.

No network call happens inside a transaction. Sources: Stripe's documentation of idempotent requests (keys may be pruned
after 24 hours, a stored 500 is replayed) and of payment intents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from jobs.declines import Decline
from jobs.gateway.stripe import Intent, ProcessorRefused, ProcessorUnavailable, StripeGateway
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.settle import cancel, decline, hand_over, settle
from jobs.throttle import Limits

log = structlog.get_logger()

LOCK_SPACE: Final = 7_355_609  # the upper half of the advisory lock on one charge
KEYS_GOOD_FOR: Final = timedelta(hours=23)
GIVE_UP_AFTER: Final = timedelta(hours=24)
RESERVED_CHECK: Final = timedelta(seconds=20)  # a live worker holds the claim: a sweep that comes early passes on
UNKNOWN_CHECKS: Final = tuple(timedelta(minutes=m) for m in (1, 5, 30, 120, 720))
PROCESSING_CHECKS: Final = tuple(timedelta(seconds=s) for s in (3, 10, 30, 60, 300, 1800, 7200))
SAME_KEY_CHECKS: Final = 2  # an answered 500 is replayed for ever under its key: later rounds take a fresh one


@dataclass(frozen=True, slots=True)
class Position:
    """Where a charge stands; read afresh before each step."""

    charge_id: int
    state: str
    payment_intent: str | None
    attempt_id: str
    request: dict[str, Any]
    opened_at: datetime
    first_sent_at: datetime | None
    checks: int


@dataclass(frozen=True, slots=True)
class Driver:
    """What a step needs: the ledger, the processor, the limits and the moment."""

    connection: Connection
    gateway: StripeGateway
    limits: Limits
    now: datetime


def advance(
    connection: Connection, gateway: StripeGateway, charge_id: int, limits: Limits, now: datetime | None = None
) -> str:
    """Takes a charge as far as it goes now and returns its state. Harmless at any time, by any number of workers."""
    with _claimed(connection, charge_id) as claimed:
        position = _position(connection, charge_id)
        if not claimed:
            return position.state
        while step := _STEPS.get(position.state):
            driver = Driver(connection, gateway, limits, now or database_now(connection))
            state = step(driver, position)
            if state in _RESTING or state == position.state:
                return state
            position = _position(connection, charge_id)
        return position.state


def due_charges(connection: Connection, limit: int = 100, now: datetime | None = None) -> list[int]:
    """Open charges whose next look is due, the longest waiting first."""
    rows = connection.execute(
        """
        select charge_id from refill.charge
        where state in ('reserved', 'created', 'confirming', 'processing', 'unknown')
          and next_check_at <= coalesce(%s, clock_timestamp())
        order by next_check_at limit %s
        """,
        (now, limit),
    )
    return [charge_id for (charge_id,) in rows]


def _create(driver: Driver, at: Position) -> str:
    if driver.now - at.opened_at > KEYS_GOOD_FOR:
        return cancel(driver.connection, at.charge_id, "never sent within 23 hours", driver.now, is_unsent=True)
    try:
        intent = driver.gateway.create(at.request, _key(at, "create"))
    except ProcessorUnavailable as error:
        return _wait(driver, at, "reserved", UNKNOWN_CHECKS, str(error))
    except ProcessorRefused as error:
        return _stop_on_refusal(driver, at, f"the processor refused to create the intent: {error}")
    with driver.connection.transaction():
        driver.connection.execute(
            "update refill.charge set state = 'created', payment_intent = %s, checks = 0"
            " where charge_id = %s and state = 'reserved'",
            (intent.intent_id, at.charge_id),
        )
    log.info("charge.created", charge_id=at.charge_id, attempt_id=at.attempt_id, payment_intent=intent.intent_id)
    return "created"


def _confirm(driver: Driver, at: Position) -> str:
    with driver.connection.transaction():
        driver.connection.execute(
            """
            update refill.charge set state = 'confirming', first_sent_at = coalesce(first_sent_at, %(now)s),
                                     next_check_at = %(check)s
            where charge_id = %(charge_id)s and state in ('created', 'confirming', 'unknown')
            """,
            {"now": driver.now, "check": driver.now + RESERVED_CHECK, "charge_id": at.charge_id},
        )
        driver.connection.execute(
            "update refill.attempt set state = 'sent', sent_at = coalesce(sent_at, %s)"
            " where attempt_id = %s and state in ('reserved', 'sent')",
            (driver.now, at.attempt_id),
        )
    log.info("attempt.started", charge_id=at.charge_id, attempt_id=at.attempt_id, payment_intent=at.payment_intent)
    try:
        intent = driver.gateway.confirm(at.payment_intent or "", _key(at, "confirm"))
    except ProcessorUnavailable as error:
        return _wait(driver, at, "unknown", UNKNOWN_CHECKS, str(error))
    except ProcessorRefused as error:
        return _after_refusal(driver, at, str(error))
    return _follow(driver, at, intent)


def _after_refusal(driver: Driver, at: Position, refusal: str) -> str:
    """A confirmation that the processor will not take: the intent says whether an earlier one had been taken."""
    try:
        intent = driver.gateway.read(at.payment_intent or "")
        if intent.status != "requires_confirmation":
            return _follow(driver, at, intent)
        driver.gateway.cancel(intent.intent_id, _key(at, "cancel"))
    except (ProcessorUnavailable, ProcessorRefused) as error:
        return _wait(driver, at, "unknown", UNKNOWN_CHECKS, f"refused ({refusal}), and then: {error}")
    return _stop_on_refusal(driver, at, f"the processor refused to confirm the intent: {refusal}")


def _read(driver: Driver, at: Position) -> str:
    """Resolves by reading: the only way out of `confirming`, `unknown` and `processing`."""
    try:
        intent = driver.gateway.read(at.payment_intent or "")
    except ProcessorUnavailable as error:
        return _wait(driver, at, "unknown", UNKNOWN_CHECKS, str(error))
    except ProcessorRefused as error:
        return hand_over(
            driver.connection, at.charge_id, f"the processor does not show the intent: {error}", driver.now
        )
    log.info(
        "charge.resolved",
        charge_id=at.charge_id,
        payment_intent=at.payment_intent,
        status=intent.status,
        state=at.state,
    )
    sent_for = driver.now - (at.first_sent_at or at.opened_at)
    if intent.status in ("requires_confirmation", "processing") and sent_for >= GIVE_UP_AFTER:
        return _give_up(driver, at, intent)
    if intent.status == "requires_confirmation":
        if sent_for >= KEYS_GOOD_FOR:
            return _wait(driver, at, "unknown", UNKNOWN_CHECKS, "not tried, and too late to try again")
        return _confirm(driver, at)
    return _follow(driver, at, intent)


def _follow(driver: Driver, at: Position, intent: Intent) -> str:
    """Acts on what the processor shows after a confirmation."""
    if intent.status == "succeeded":
        return settle(driver.connection, at.charge_id, intent, driver.now)
    if intent.status == "processing":
        return _wait(driver, at, "processing", PROCESSING_CHECKS, "the processor is still processing")
    if intent.status == "canceled":
        return cancel(driver.connection, at.charge_id, "cancelled at the processor", driver.now, is_unsent=False)
    if intent.status == "requires_action":
        return _needs_action(driver, at, intent)
    if intent.status == "requires_payment_method" and intent.decline is not None:
        return decline(driver.connection, at.charge_id, intent.decline, driver.limits, driver.now)
    return _wait(driver, at, "unknown", UNKNOWN_CHECKS, f"the intent shows {intent.status}")


def _needs_action(driver: Driver, at: Position, intent: Intent) -> str:
    """The holder is to authenticate and is not here: the intent is cancelled first, so that it cannot succeed later."""
    try:
        driver.gateway.cancel(intent.intent_id, _key(at, "cancel"))
    except (ProcessorUnavailable, ProcessorRefused) as error:
        return _wait(driver, at, "unknown", UNKNOWN_CHECKS, f"waits for the holder and could not be cancelled: {error}")
    said = Decline(code="authentication_required", status=intent.status)
    return decline(driver.connection, at.charge_id, said, driver.limits, driver.now)


def _give_up(driver: Driver, at: Position, intent: Intent) -> str:
    """After 24 hours: a successful cancel proves that no charge follows; anything else is for a person."""
    try:
        driver.gateway.cancel(at.payment_intent or "", _key(at, "cancel"))
    except (ProcessorUnavailable, ProcessorRefused) as error:
        return hand_over(
            driver.connection, at.charge_id, f"unresolved for 24 hours, not cancellable: {error}", driver.now
        )
    is_unsent = intent.status == "requires_confirmation"
    detail = "unresolved for 24 hours; the intent is cancelled"
    return cancel(driver.connection, at.charge_id, detail, driver.now, is_unsent=is_unsent)


def _stop_on_refusal(driver: Driver, at: Position, detail: str) -> str:
    """A request that the processor will never take is not repeated: the card waits for an operator."""
    with driver.connection.transaction():
        state = cancel(driver.connection, at.charge_id, detail, driver.now, is_unsent=True)
        driver.connection.execute(
            """
            insert into refill.card_state as s (fingerprint, stop, stop_reason, stopped_at)
            select fingerprint, 'operator', %(detail)s, %(now)s from refill.charge where charge_id = %(charge_id)s
            on conflict (fingerprint) do update set stop = coalesce(s.stop, excluded.stop),
                stop_reason = coalesce(s.stop_reason, excluded.stop_reason),
                stopped_at = coalesce(s.stopped_at, excluded.stopped_at), updated_at = %(now)s
            """,
            {"detail": detail, "now": driver.now, "charge_id": at.charge_id},
        )
    return state


def _wait(driver: Driver, at: Position, state: str, checks: tuple[timedelta, ...], why: str) -> str:
    """Leaves the charge where the sweep finds it again, at growing intervals."""
    done = at.checks if state == at.state else 0
    check_at = driver.now + checks[min(done, len(checks) - 1)]
    driver.connection.execute(
        """
        update refill.charge
        set state = %s, detail = %s, next_check_at = %s, checks = %s
        where charge_id = %s and state in ('reserved', 'created', 'confirming', 'processing', 'unknown')
        """,
        (state, why, check_at, done + 1, at.charge_id),
    )
    log.warning("charge.waiting", charge_id=at.charge_id, state=state, reason=why, next_at=check_at.isoformat())
    return state


def _key(at: Position, what: str) -> str:
    """The idempotency key of one request; a fresh one where an answered error may be stored under the first."""
    return f"{at.attempt_id}:{what}" + (f":{at.checks}" if at.checks > SAME_KEY_CHECKS else "")


def _position(connection: Connection, charge_id: int) -> Position:
    row = fetch_one(
        connection,
        """
        select c.state::text, c.payment_intent, t.attempt_id::text, t.request, c.opened_at, c.first_sent_at, c.checks
        from refill.charge c join refill.attempt t using (charge_id)
        where c.charge_id = %s order by t.reserved_at desc limit 1
        """,
        (charge_id,),
    )
    return Position(charge_id, *row)


@contextmanager
def _claimed(connection: Connection, charge_id: int) -> Iterator[bool]:
    """Holds a session lock on the charge over several transactions; a killed worker's connection gives it back."""
    key = (LOCK_SPACE << 32) + charge_id
    claimed: bool = fetch_one(connection, "select pg_try_advisory_lock(%s)", (key,))[0]
    try:
        yield claimed
    finally:
        if claimed:
            connection.execute("select pg_advisory_unlock(%s)", (key,))


_STEPS: Final[dict[str, Callable[[Driver, Position], str]]] = {
    "reserved": _create,
    "created": _confirm,
    "confirming": _read,
    "processing": _read,
    "unknown": _read,
}
_RESTING: Final = frozenset({"processing", "unknown"})
