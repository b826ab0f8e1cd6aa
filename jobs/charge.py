"""Drives a charge from its reservation to its end, so that a card is never charged twice and never forgotten.

    reserved --create--> created --confirm--> confirming --> succeeded | declined | needs_customer
        |                   |                     |--------> processing --> succeeded | declined
        |                   |                     `--------> unknown -----> whatever reading the intent shows
        `-------------------`--- cancelled (provably unsent)                `--> needs_review (read again each hour)

What a kill, a lost answer or a duplicate does at each step:

- after the reservation: the sweep creates the intent under the same key; an unconfirmed intent moves no money. What was
  withdrawn meanwhile (recharge switched off, card replaced or stopped) is not sent.
- after create, before its id is stored: the intent is looked for by the attempt's id before another is made, so that
  neither a lost answer nor a ledger restored from a backup charges again.
- after `confirming` is committed: the intent is **read**, never guessed. `requires_confirmation` means not tried, and
  it is confirmed again; a payment intent succeeds at most once, whatever the number of confirmations.
- after a decline: what the card said is noted, the intent is cancelled so that nothing can succeed later, and only then
  the charge ends. A lost answer to the cancel is read like any other.
- two workers at one charge: a session lock lets one through, and the ending transaction locks the row and compares.

No network call happens inside a transaction. Source: Stripe on idempotent requests (a stored 500 is replayed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from psycopg.types.json import Jsonb

from jobs.declines import Decline
from jobs.gateway.stripe import Intent, ProcessorRefused, ProcessorUnavailable, StripeGateway
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.settle import REVIEW_EVERY, cancel, decline, hand_over, settle
from jobs.throttle import Limits

log = structlog.get_logger()

LOCK_SPACE: Final = 7_355_609  # the upper half of the advisory lock on one charge
RECENT: Final = timedelta(minutes=1)  # later than that somebody else may have created it, or a backup was restored
KEYS_GOOD_FOR: Final = timedelta(hours=23)
GIVE_UP_AFTER: Final = timedelta(hours=24)
CONFIRMING_CHECK: Final = timedelta(seconds=20)  # a live worker holds the claim: a sweep that comes early passes on
RESERVED_CHECKS: Final = tuple(timedelta(seconds=s) for s in (20, 60, 300))
UNKNOWN_CHECKS: Final = tuple(timedelta(minutes=m) for m in (1, 5, 30, 120, 720))
PROCESSING_CHECKS: Final = tuple(timedelta(seconds=s) for s in (3, 10, 30, 60, 300, 1800, 7200))
SAME_KEY_CHECKS: Final = 2  # an answered 500 is replayed for ever under its key: later rounds take a fresh one


@dataclass(frozen=True, slots=True)
class Position:
    """Where a charge stands; read afresh before each step. `said` is what the card answered, once it declined."""

    charge_id: int
    state: str
    payment_intent: str | None
    attempt_id: str
    request: dict[str, Any]
    said: Decline | None
    opened_at: datetime
    first_sent_at: datetime | None
    checks: int


@dataclass(frozen=True, slots=True)
class Driver:
    """What a step needs: the ledger, the processor, the limits, and the moment where it is not simply now."""

    connection: Connection
    gateway: StripeGateway
    limits: Limits
    moment: datetime | None

    @property
    def now(self) -> datetime:
        """Asked again at each use: an answer of the processor may have taken its time."""
        return self.moment or database_now(self.connection)


def advance(
    connection: Connection, gateway: StripeGateway, charge_id: int, limits: Limits, now: datetime | None = None
) -> str:
    """Takes a charge as far as it goes now and returns its state. Harmless at any time, by any number of workers."""
    driver = Driver(connection, gateway, limits, now)
    with _claimed(connection, charge_id) as claimed:
        position = _position(connection, charge_id)
        if not claimed:
            return position.state
        while step := _STEPS.get(position.state):
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
        where state in ('reserved', 'created', 'confirming', 'processing', 'unknown', 'needs_review')
          and next_check_at <= coalesce(%s, (select clock_timestamp()))
        order by next_check_at limit %s
        """,
        (now, limit),
    )
    return [charge_id for (charge_id,) in rows]


def _create(driver: Driver, at: Position) -> str:
    """Creates the intent, unless it is there already, its time is over, or it is no longer wanted."""
    if at.checks or driver.now - at.opened_at > RECENT:
        try:
            found = driver.gateway.find(str(at.request["customer"]), at.attempt_id, at.opened_at)
        except (ProcessorUnavailable, ProcessorRefused) as error:
            return _not_found_out(driver, at, error)
        if found is not None:
            state = _adopt(driver, at, found, "unknown")
            adopted = replace(at, state=state, payment_intent=found.intent_id)
            return state if state != "unknown" else _read(driver, adopted)
    withdrawn = _withdrawal(driver.connection, at.charge_id)
    if driver.now - at.opened_at > KEYS_GOOD_FOR:
        withdrawn = "not sent within 23 hours"
    if withdrawn is not None:
        return cancel(driver.connection, at.charge_id, f"not sent: {withdrawn}", driver.now, is_unsent=True)
    try:
        intent = driver.gateway.create(at.request, _key(at, "create"))
    except ProcessorUnavailable as error:
        return _wait(driver, at, "reserved", RESERVED_CHECKS, str(error))
    except ProcessorRefused as error:
        return _refused(driver, at, "reserved", RESERVED_CHECKS, error)
    return _adopt(driver, at, intent, "created")


def _not_found_out(driver: Driver, at: Position, error: ProcessorUnavailable | ProcessorRefused) -> str:
    """Whether there is an intent could not be asked: asked again, and after a day a person's business."""
    if isinstance(error, ProcessorRefused) and driver.now - at.opened_at >= GIVE_UP_AFTER:
        return hand_over(driver.connection, at.charge_id, f"the processor refuses to look for it: {error}", driver.now)
    return _wait(driver, at, "reserved", RESERVED_CHECKS, str(error))


def _adopt(driver: Driver, at: Position, intent: Intent, state: str) -> str:
    driver.connection.execute(
        "update refill.charge set state = %s, payment_intent = %s, checks = 0"
        " where charge_id = %s and state in ('reserved', 'needs_review')",
        (state, intent.intent_id, at.charge_id),
    )
    asked = (at.request["amount"], str(at.request["currency"]).upper())
    if (intent.amount, intent.currency) != asked:
        return hand_over(driver.connection, at.charge_id, f"the intent {intent} is not what was asked for", driver.now)
    log.info("charge.created", charge_id=at.charge_id, attempt_id=at.attempt_id, payment_intent=intent.intent_id)
    return state


def _confirm(driver: Driver, at: Position) -> str:
    withdrawn = _mark_confirming(driver, at)
    if withdrawn is not None:
        return _take_back(driver, at, withdrawn)
    log.info("attempt.started", charge_id=at.charge_id, attempt_id=at.attempt_id, payment_intent=at.payment_intent)
    try:
        intent = driver.gateway.confirm(at.payment_intent or "", _key(at, "confirm"))
    except ProcessorUnavailable as error:
        return _wait(driver, at, "unknown", UNKNOWN_CHECKS, str(error))
    except ProcessorRefused as error:
        return _after_refusal(driver, at, error)
    return _follow(driver, at, intent)


def _mark_confirming(driver: Driver, at: Position) -> str | None:
    """Commits that the confirmation is about to leave; returns why it must not, where that is so."""
    now = driver.now
    with driver.connection.transaction():
        too_old = now - at.opened_at > KEYS_GOOD_FOR
        withdrawn = "not sent within 23 hours" if too_old else _withdrawal(driver.connection, at.charge_id)
        if withdrawn is not None:
            return withdrawn
        driver.connection.execute(
            """
            update refill.charge set state = 'confirming', first_sent_at = coalesce(first_sent_at, %(now)s),
                                     next_check_at = %(check)s
            where charge_id = %(charge_id)s and state in ('created', 'confirming', 'unknown')
            """,
            {"now": now, "check": now + CONFIRMING_CHECK, "charge_id": at.charge_id},
        )
        driver.connection.execute(
            "update refill.attempt set state = 'sent', sent_at = coalesce(sent_at, %s)"
            " where attempt_id = %s and state in ('reserved', 'sent')",
            (now, at.attempt_id),
        )
    return None


def _take_back(driver: Driver, at: Position, why: str) -> str:
    """Cancels an intent that shows that it was never tried: the proof that the card did not see it."""
    try:
        driver.gateway.cancel(at.payment_intent or "", _key(at, "cancel"))
    except (ProcessorUnavailable, ProcessorRefused) as error:
        return _wait(driver, at, "unknown", UNKNOWN_CHECKS, f"to be cancelled ({why}): {error}")
    return cancel(driver.connection, at.charge_id, f"not sent: {why}", driver.now, is_unsent=True)


def _after_refusal(driver: Driver, at: Position, refusal: ProcessorRefused) -> str:
    """A confirmation that the processor will not take: the intent says whether an earlier one had been taken."""
    try:
        intent = driver.gateway.read(at.payment_intent or "")
    except (ProcessorUnavailable, ProcessorRefused) as error:
        return _wait(driver, at, "unknown", UNKNOWN_CHECKS, f"refused ({refusal}), and then: {error}")
    if intent.status == "requires_confirmation":
        return _refused(driver, at, "unknown", UNKNOWN_CHECKS, refusal)
    return _follow(driver, at, intent)


def _read(driver: Driver, at: Position) -> str:
    """Resolves by reading: the only way out of `confirming`, `unknown` and `processing`."""
    try:
        intent = driver.gateway.read(at.payment_intent or "")
    except ProcessorUnavailable as error:
        return _wait(driver, at, "unknown", UNKNOWN_CHECKS, str(error))
    except ProcessorRefused as error:
        if driver.now - (at.first_sent_at or at.opened_at) >= GIVE_UP_AFTER:
            return hand_over(driver.connection, at.charge_id, f"the processor does not show it: {error}", driver.now)
        return _refused(driver, at, "unknown", UNKNOWN_CHECKS, error)
    log.info(
        "charge.resolved",
        charge_id=at.charge_id,
        payment_intent=at.payment_intent,
        state=at.state,
        status=intent.status,
    )
    if _is_final(intent):
        return _follow(driver, at, intent)
    if driver.now - (at.first_sent_at or at.opened_at) >= GIVE_UP_AFTER:
        return _give_up(driver, at, intent)
    return _confirm(driver, at) if intent.status == "requires_confirmation" else _follow(driver, at, intent)


def _review(driver: Driver, at: Position) -> str:
    """A person may have cleared it up at the processor: what is final there is followed, all else is left to them."""
    try:
        if at.payment_intent is None:
            return _create(driver, replace(at, checks=1))
        intent = driver.gateway.read(at.payment_intent)
        if _is_final(intent):
            return _follow(driver, at, intent)
    except (ProcessorUnavailable, ProcessorRefused) as error:
        log.warning("charge.unreadable", charge_id=at.charge_id, payment_intent=at.payment_intent, error=str(error))
    driver.connection.execute(
        "update refill.charge set next_check_at = %s where charge_id = %s and state = 'needs_review'",
        (driver.now + REVIEW_EVERY, at.charge_id),
    )
    return at.state


def _is_final(intent: Intent) -> bool:
    declined = intent.status == "requires_payment_method" and intent.decline is not None
    return intent.status in ("succeeded", "canceled") or declined


def _follow(driver: Driver, at: Position, intent: Intent) -> str:
    """Acts on what the processor shows after a confirmation."""
    said = intent.decline or at.said
    if intent.intent_id != at.payment_intent:
        return hand_over(driver.connection, at.charge_id, f"the processor shows {intent.intent_id}", driver.now)
    if intent.status == "succeeded":
        return settle(driver.connection, at.charge_id, intent, driver.now)
    if intent.status == "processing":
        return _wait(driver, at, "processing", PROCESSING_CHECKS, "the processor is still processing")
    if intent.status == "canceled" and said is not None:
        return decline(driver.connection, at.charge_id, said, driver.limits, driver.now)
    if intent.status == "canceled":
        return cancel(driver.connection, at.charge_id, "cancelled at the processor", driver.now, is_unsent=False)
    if intent.status == "requires_action":
        return _end_declined(driver, at, Decline(code="authentication_required", status=intent.status))
    if intent.status == "requires_payment_method" and said is not None:
        return _end_declined(driver, at, said)
    return _wait(driver, at, "unknown", UNKNOWN_CHECKS, f"the intent shows {intent.status}")


def _end_declined(driver: Driver, at: Position, said: Decline) -> str:
    """Notes what the card said, cancels the intent so that nobody can make it succeed later, and ends the charge."""
    driver.connection.execute(
        "update refill.attempt set decline = %s where attempt_id = %s", (Jsonb(asdict(said)), at.attempt_id)
    )
    try:
        driver.gateway.cancel(at.payment_intent or "", _key(at, "cancel"))
    except (ProcessorUnavailable, ProcessorRefused) as error:
        return _not_cancelled(driver, at, f"declined, and the intent could not be cancelled: {error}")
    return decline(driver.connection, at.charge_id, said, driver.limits, driver.now)


def _not_cancelled(driver: Driver, at: Position, why: str) -> str:
    if driver.now - (at.first_sent_at or at.opened_at) >= GIVE_UP_AFTER:
        return hand_over(driver.connection, at.charge_id, why, driver.now)
    return _wait(driver, at, "unknown", UNKNOWN_CHECKS, why)


def _give_up(driver: Driver, at: Position, intent: Intent) -> str:
    """After 24 hours: a successful cancel proves that no charge follows; an intent that refuses it is for a person."""
    try:
        driver.gateway.cancel(at.payment_intent or "", _key(at, "cancel"))
    except ProcessorUnavailable as error:
        return _wait(driver, at, "unknown", RESERVED_CHECKS, f"to be cancelled after 24 hours: {error}")
    except ProcessorRefused as error:
        return hand_over(driver.connection, at.charge_id, f"unresolved, and not cancellable: {error}", driver.now)
    said = intent.decline or at.said
    if intent.status == "requires_action":
        said = Decline(code="authentication_required", status=intent.status)
    if said is not None:
        return decline(driver.connection, at.charge_id, said, driver.limits, driver.now)
    is_unsent = intent.status == "requires_confirmation"
    return cancel(driver.connection, at.charge_id, "unresolved for 24 hours", driver.now, is_unsent=is_unsent)


def _refused(driver: Driver, at: Position, state: str, checks: tuple[timedelta, ...], refusal: ProcessorRefused) -> str:
    """Said loudly, and tried again in case the set-up is at fault; what is withdrawn or grows too old is taken back."""
    log.error("charge.refused", charge_id=at.charge_id, payment_intent=at.payment_intent, error=str(refusal))
    return _wait(driver, at, state, checks, str(refusal))


def _wait(driver: Driver, at: Position, state: str, checks: tuple[timedelta, ...], why: str) -> str:
    """Leaves the charge where the sweep finds it again, at growing intervals."""
    done = at.checks if state == at.state else 0
    check_at = driver.now + checks[min(done, len(checks) - 1)]
    driver.connection.execute(
        """
        update refill.charge
        set state = %s, detail = %s, next_check_at = %s, checks = %s
        where charge_id = %s and state in ('reserved', 'created', 'confirming', 'processing', 'unknown', 'needs_review')
        """,
        (state, why, check_at, done + 1, at.charge_id),
    )
    log.warning("charge.waiting", charge_id=at.charge_id, state=state, reason=why, next_at=check_at.isoformat())
    return state


def _withdrawal(connection: Connection, charge_id: int) -> str | None:
    """Why a charge that was reserved a while ago must not be sent any more, or None."""
    row = connection.execute(
        """
        select case
            when s.stop is not null then 'the card is stopped: ' || s.stop_reason
            when not exists (
                select from refill.card k where k.payment_method = c.payment_method and k.removed_at is null)
                then 'the card was replaced'
            when c.reason = 'recharge' and exists (
                select from refill.charge_line l left join refill.policy y using (account_id)
                where l.charge_id = c.charge_id and not coalesce(y.enabled, false))
                then 'recharge was switched off' end
        from refill.charge c left join refill.card_state s using (fingerprint) where c.charge_id = %s
        """,
        (charge_id,),
    ).fetchone()
    return None if row is None else row[0]


def _key(at: Position, what: str) -> str:
    """The idempotency key of one request; a fresh one where an answered error may be stored under the first."""
    return f"{at.attempt_id}:{what}" + (f":{at.checks}" if at.checks > SAME_KEY_CHECKS else "")


def _position(connection: Connection, charge_id: int) -> Position:
    state, payment_intent, attempt_id, request, said, *rest = fetch_one(
        connection,
        """
        select c.state::text, c.payment_intent, t.attempt_id::text, t.request, t.decline, c.opened_at, c.first_sent_at,
               c.checks
        from refill.charge c join refill.attempt t using (charge_id)
        where c.charge_id = %s order by t.reserved_at desc limit 1
        """,
        (charge_id,),
    )
    answer = None if said is None else Decline(**said)
    return Position(charge_id, state, payment_intent, attempt_id, request, answer, *rest)


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
    "needs_review": _review,
}
_RESTING: Final = frozenset({"processing", "unknown", "needs_review"})
