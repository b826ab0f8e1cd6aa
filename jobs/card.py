"""Saved cards: one in use per account, and what an operator says about a physical card over all accounts.

A card is known by its fingerprint wherever it is saved. Its stop (see refill.card_state) ends with another card or by
an operator; only what the card network said for ever, `never`, no operator can take back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import structlog
from psycopg.rows import class_row

from jobs.account import Account, find, find_open
from jobs.errors import Malformed, Refused
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.levels import watch_if_below

if TYPE_CHECKING:  # the SDK takes a second to import, and listing cards needs none of it
    from jobs.gateway.stripe import SavedCard, StripeGateway

log = structlog.get_logger()


class UnknownCard(Refused):
    """No account has ever saved a card with this fingerprint."""

    code = "unknown_card"


class CardNever(Refused):
    """The card network said that this card must never be tried again."""

    code = "card_never"


@dataclass(frozen=True, slots=True)
class Card:
    """One card saved for an account. `stop` is why it is not tried, over all accounts; `removed_at` None: in use."""

    account: str
    fingerprint: str
    payment_method: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    added_at: datetime
    added_by: str
    removed_at: datetime | None
    stop: str | None
    stop_reason: str | None
    not_before: datetime | None

    @property
    def words(self) -> str:
        """For people: ``visa ending in 4242, expires 04/2030``."""
        return f"{self.brand} ending in {self.last4}, expires {self.exp_month:02}/{self.exp_year}"


@dataclass(frozen=True, slots=True)
class CardState:
    """A physical card over all accounts: how many use it, and whether it is stopped."""

    fingerprint: str
    accounts: int
    stop: str | None
    stop_reason: str | None


def add(
    connection: Connection,
    gateway: StripeGateway,
    account: str,
    actor: str,
    *,
    payment_method: str | None = None,
    test_card: str | None = None,
    now: datetime | None = None,
) -> Card:
    """Saves a card at the processor and puts it to use for the account, in the place of the one before.

    Accounts that it pays for and that are below their trigger are looked at again at once. Give either a
    `payment_method` or the name of a `test_card`. Raises `Malformed`, `UnknownAccount`, `AccountClosed` and the errors
    of the gateway. Not to be called inside a transaction: it asks the processor.
    """
    if (payment_method is None) == (test_card is None):
        raise Malformed("give either a payment method or a test card")
    organisation = find_open(connection, account).organisation
    saved = (
        gateway.save_card(payment_method, organisation)
        if payment_method is not None
        else gateway.save_test_card(test_card or "", organisation)
    )
    with connection.transaction():
        holder = find_open(connection, account, lock=True)
        moment = now or database_now(connection)
        _end_wait_for_details(connection, saved, moment)
        _put_to_use(connection, holder, saved, actor, moment)
        watch_if_below(connection, _paid_for(connection, holder), moment)
    log.info("card.saved", account=account, fingerprint=saved.fingerprint, actor=actor)
    return list_cards(connection, account)[0]


def list_cards(connection: Connection, account: str) -> list[Card]:
    """The cards of an account, the one in use first, then the latest. Raises `UnknownAccount`."""
    account_id = find(connection, account).account_id
    with connection.cursor(row_factory=class_row(Card)) as cursor:
        return cursor.execute(
            "select a.name as account, c.fingerprint, c.payment_method, c.brand, c.last4, c.exp_month, c.exp_year,"
            " c.added_at, c.added_by, c.removed_at, s.stop, s.stop_reason,"
            " case when s.not_before > clock_timestamp() then nullif(s.not_before, 'infinity') end as not_before"
            " from refill.card c join refill.account a using (account_id)"
            " left join refill.card_state s using (fingerprint)"
            " where c.account_id = %s order by c.removed_at desc nulls first, c.card_id desc",
            (account_id,),
        ).fetchall()


def in_use(connection: Connection, account: str) -> Card | None:
    """The card that the account would be charged on, or None. Raises `UnknownAccount`."""
    return next((card for card in list_cards(connection, account) if card.removed_at is None), None)


def block(connection: Connection, fingerprint: str, actor: str, now: datetime | None = None) -> CardState:
    """Stops a physical card on all accounts until an operator unblocks it. Again, it changes nothing.

    A stop that is there already for another reason becomes the operator's, but for `never`. Raises `UnknownCard`.
    """
    with connection.transaction():
        state = find_state(connection, fingerprint)
        if state.stop in ("operator", "never"):
            return state
        connection.execute(
            "insert into refill.card_state (fingerprint, stop, stop_reason, stopped_at, updated_at)"
            " values (%(card)s, 'operator', %(reason)s, %(now)s, %(now)s)"
            " on conflict (fingerprint) do update set stop = excluded.stop, stop_reason = excluded.stop_reason,"
            " stopped_at = excluded.stopped_at, updated_at = excluded.updated_at",
            {"card": fingerprint, "reason": f"blocked by {actor}", "now": now or database_now(connection)},
        )
    log.info("card.blocked", fingerprint=fingerprint, actor=actor, before=state.stop)
    return find_state(connection, fingerprint)


def unblock(connection: Connection, fingerprint: str, actor: str, now: datetime | None = None) -> CardState:
    """Lets a physical card be tried again on all accounts, which are looked at again at once; its declines count anew.

    What the issuer or the throttle asks to wait for is still waited for. Raises `UnknownCard`, and `CardNever` where
    the card network forbids any further try.
    """
    with connection.transaction():
        state = find_state(connection, fingerprint)
        if state.stop == "never":
            raise CardNever(
                f"The card network forbids any further try of this card ({state.stop_reason}): it needs another card."
            )
        moment = now or database_now(connection)
        _clear_stop(connection, fingerprint, moment)
        watch_if_below(connection, _paid_by(connection, fingerprint), moment)
    log.info("card.unblocked", fingerprint=fingerprint, actor=actor, before=state.stop)
    return find_state(connection, fingerprint)


def find_state(connection: Connection, fingerprint: str) -> CardState:
    """What is known of a physical card. Raises `UnknownCard`."""
    accounts, known, stop, stop_reason = fetch_one(
        connection,
        "select count(distinct c.account_id) filter (where c.removed_at is null), count(c.card_id),"
        " max(s.stop), max(s.stop_reason)"
        " from (select %s::text as fingerprint) f left join refill.card c using (fingerprint)"
        " left join refill.card_state s using (fingerprint)",
        (fingerprint,),
    )
    if not known and stop is None:
        raise UnknownCard(f"No card has the fingerprint {fingerprint!r}; `refill card list ACCOUNT` shows them.")
    return CardState(fingerprint, accounts, stop, stop_reason)


def _put_to_use(connection: Connection, holder: Account, saved: SavedCard, actor: str, now: datetime) -> None:
    connection.execute(
        "update refill.card set removed_at = %s where account_id = %s and removed_at is null and payment_method <> %s",
        (now, holder.account_id, saved.payment_method),
    )
    connection.execute(
        "insert into refill.card (account_id, payment_method, customer, fingerprint, brand, last4, exp_month, exp_year,"
        " added_at, added_by) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " on conflict (account_id, payment_method) do update"
        " set removed_at = null, exp_month = excluded.exp_month, exp_year = excluded.exp_year",
        (
            holder.account_id,
            saved.payment_method,
            saved.customer,
            saved.fingerprint,
            saved.brand,
            saved.last4,
            saved.exp_month,
            saved.exp_year,
            now,
            actor,
        ),
    )


def _end_wait_for_details(connection: Connection, saved: SavedCard, now: datetime) -> None:
    """A card that waited for new details has them where it is saved with an expiry that is not the one known."""
    waits = connection.execute(
        "select from refill.card_state s where s.fingerprint = %s and s.stop = 'new_details'"
        " and not exists (select from refill.card c where c.fingerprint = s.fingerprint"
        "                 and (c.exp_year, c.exp_month) = (%s, %s))",
        (saved.fingerprint, saved.exp_year, saved.exp_month),
    ).fetchone()
    if waits is not None:
        _clear_stop(connection, saved.fingerprint, now)


def _clear_stop(connection: Connection, fingerprint: str, now: datetime) -> None:
    connection.execute(
        "update refill.card_state set stop = null, stop_reason = null, stopped_at = null, consecutive_declines = 0,"
        " updated_at = %s where fingerprint = %s and stop is distinct from 'never'",
        (now, fingerprint),
    )


def _paid_for(connection: Connection, holder: Account) -> list[int]:
    """The accounts that the card of this one may pay for: a system account's card pays for those that it manages."""
    if not holder.is_system:
        return [holder.account_id]
    rows = connection.execute(
        "select account_id from refill.account where organisation_id = %s and program_id = %s and closed_at is null",
        (holder.organisation_id, holder.program_id),
    )
    return [account_id for (account_id,) in rows]


def _paid_by(connection: Connection, fingerprint: str) -> list[int]:
    names = connection.execute(
        "select a.name from refill.card c join refill.account a using (account_id)"
        " where c.fingerprint = %s and c.removed_at is null and a.closed_at is null",
        (fingerprint,),
    ).fetchall()
    return sorted({account_id for (name,) in names for account_id in _paid_for(connection, find(connection, name))})
