"""What a decision rests on, as Postgres counts it: caps in the program's own time, and attempts on a physical card."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from psycopg.types.json import Jsonb

from jobs.facts import card_facts, card_to_bill, gather
from jobs.ledger.database import Connection, fetch_one
from tests.support.seed import grant, load_examples, open_account

NOON = datetime(2026, 5, 15, 12, 0, tzinfo=UTC)
SYDNEY_MAY_BEGAN = datetime(2026, 4, 30, 14, 0, tzinfo=UTC)  # midnight of 1 May in Sydney, UTC+10
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

State = Literal["succeeded", "declined", "needs_customer", "cancelled", "confirming", "unknown", "needs_review"]
_ATTEMPT = {
    "succeeded": "succeeded",
    "declined": "declined",
    "needs_customer": "needs_customer",
    "cancelled": "released",
}


class Ledger:
    """Accounts of `acme` and charges on their cards."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        load_examples(connection)

    def charge(
        self,
        account_id: int,
        amount: int,
        state: State,
        at: datetime,
        *,
        fingerprint: str = "card",
        is_reattempt: bool = False,
        reason: str = "recharge",
    ) -> int:
        """A charge with its line and its attempt, reserved and ended at one moment, or still open."""
        charge_id: int = fetch_one(
            self.connection,
            "insert into refill.charge (program_id, organisation_id, reason, fingerprint, payment_method, customer,"
            " currency, net_minor, tax_minor, amount_minor, payment_intent, opened_at, next_check_at)"
            " select program_id, organisation_id, %s, %s, 'pm', 'cus', 'AUD', %s, 0, %s, gen_random_uuid()::text,"
            " %s, %s"
            " from refill.account where account_id = %s returning charge_id",
            (reason, fingerprint, amount, amount, at, at, account_id),
        )[0]
        self.connection.execute(
            "insert into refill.charge_line (charge_id, line, account_id, credits, net_minor, tax_minor, amount_minor)"
            " values (%s, 1, %s, 500, %s, 0, %s)",
            (charge_id, account_id, amount, amount),
        )
        ended_at = at if state in _ATTEMPT else None
        self.connection.execute(
            "insert into refill.attempt (charge_id, fingerprint, state, is_reattempt, request, reserved_at,"
            " finished_at) values (%s, %s, %s, %s, %s, %s, %s)",
            (charge_id, fingerprint, _ATTEMPT.get(state, "sent"), is_reattempt, Jsonb({}), at, ended_at),
        )
        self.connection.execute(
            "update refill.charge set state = %s, settled_at = %s, ended_at = %s where charge_id = %s",
            (state, at if state == "succeeded" else None, ended_at, charge_id),
        )
        return charge_id

    def used(self, account_id: int, now: datetime) -> tuple[int, int]:
        """What counts against the cap of the month, and against that of the day."""
        facts = gather(self.connection, account_id, None, now).facts
        return facts.month.used, facts.day.used

    def save_card(self, account_id: int, fingerprint: str = "card") -> None:
        self.connection.execute(
            "insert into refill.card (account_id, payment_method, customer, fingerprint, brand, last4, exp_month,"
            " exp_year, added_by) values (%s, 'pm', 'cus', %s, 'visa', '4242', 1, 2030, 'test')",
            (account_id, fingerprint),
        )


@pytest.fixture
def ledger(connection: Connection) -> Ledger:
    return Ledger(connection)


def test_a_month_begins_and_ends_at_midnight_of_the_programs_time_zone(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "sms")
    ledger.charge(account_id, 1_000, "succeeded", SYDNEY_MAY_BEGAN - MINUTE)
    ledger.charge(account_id, 30, "succeeded", SYDNEY_MAY_BEGAN)

    last_of_april = gather(ledger.connection, account_id, None, SYDNEY_MAY_BEGAN - MINUTE).facts
    first_of_may = gather(ledger.connection, account_id, None, SYDNEY_MAY_BEGAN + MINUTE).facts

    assert last_of_april.month.ends_at == SYDNEY_MAY_BEGAN
    assert first_of_may.month.used == 30
    assert first_of_may.month.ends_at == datetime(2026, 5, 31, 14, 0, tzinfo=UTC)
    assert first_of_may.day.ends_at == SYDNEY_MAY_BEGAN + DAY


def test_a_month_with_a_change_of_clocks_ends_at_midnight_too(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "sms")  # Sydney leaves summer time on 5 April 2026
    april = gather(ledger.connection, account_id, None, datetime(2026, 4, 1, 12, 0, tzinfo=UTC)).facts
    day_of_change = gather(ledger.connection, account_id, None, datetime(2026, 4, 4, 20, 0, tzinfo=UTC)).facts
    assert april.month.ends_at == SYDNEY_MAY_BEGAN
    assert day_of_change.day.ends_at == datetime(2026, 4, 5, 14, 0, tzinfo=UTC)


def test_a_day_has_its_own_sum(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "sms")
    for days_ago, amount in ((0, 1), (1, 20), (2, 300)):
        ledger.charge(account_id, amount, "succeeded", NOON - days_ago * DAY)
    assert ledger.used(account_id, NOON) == (321, 1)


def test_open_charges_count_whenever_they_were_opened(ledger: Ledger) -> None:
    states: tuple[State, ...] = ("confirming", "unknown", "needs_review")
    for number, state in enumerate(states):
        account_id = open_account(ledger.connection, f"anna-{state}", "sms")
        ledger.charge(account_id, 700, state, SYDNEY_MAY_BEGAN - 5 * DAY, fingerprint=f"card-{number}")
        assert ledger.used(account_id, NOON) == (700, 700)


def test_what_took_no_money_does_not_count(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "sms")
    for state in ("declined", "needs_customer", "cancelled"):
        ledger.charge(account_id, 700, state, NOON)
    assert ledger.used(account_id, NOON) == (0, 0)


def test_credit_that_went_back_does_not_restore_the_cap(ledger: Ledger) -> None:
    """A refund moves credit out again; the charge stays settled, and its money stays counted, gross."""
    account_id = open_account(ledger.connection, "anna", "sms")
    charge_id = ledger.charge(account_id, 700, "succeeded", NOON)
    lot_id = grant(ledger.connection, account_id, 500, now=NOON)
    ledger.connection.execute(
        "insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance, charge_id)"
        " select %s, 'refund', program_id, account_id, refill.own_side(program_id, 'refunds'), 500, %s, 0, %s"
        " from refill.account where account_id = %s",
        (NOON, lot_id, charge_id, account_id),
    )
    assert ledger.used(account_id, NOON + MINUTE) == (700, 700)


def test_only_the_accounts_own_line_counts(ledger: Ledger) -> None:
    anna, bert = (open_account(ledger.connection, name, "sms") for name in ("anna", "bert"))
    ledger.charge(anna, 700, "succeeded", NOON)
    assert ledger.used(bert, NOON) == (0, 0)


def test_attempts_are_counted_over_all_accounts_of_a_card_and_released_ones_are_not(ledger: Ledger) -> None:
    anna, bert = (open_account(ledger.connection, name, "points") for name in ("anna", "bert"))
    ledger.charge(anna, 1, "succeeded", NOON - 3 * HOUR)
    ledger.charge(bert, 1, "declined", NOON - 2 * HOUR)
    ledger.charge(bert, 1, "cancelled", NOON - HOUR)
    ledger.charge(anna, 1, "succeeded", NOON - HOUR, fingerprint="another card")

    card = card_facts(ledger.connection, "card", NOON)

    assert list(card.attempts_24h) == [NOON - 3 * HOUR, NOON - 2 * HOUR]
    assert list(card.declines_24h) == [NOON - 2 * HOUR]
    assert (card.last_success_at, card.last_failure_at) == (NOON - 3 * HOUR, NOON - 2 * HOUR)
    assert card.was_declined


def test_a_day_of_attempts_is_open_at_its_beginning(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "points")
    for moment in (NOON - DAY, NOON - DAY + MINUTE):
        ledger.charge(account_id, 1, "declined", moment)
    card = card_facts(ledger.connection, "card", NOON)
    assert list(card.attempts_24h) == [NOON - DAY + MINUTE]
    assert list(card.declines_24h) == [NOON - DAY + MINUTE]


def test_re_attempts_are_counted_for_thirty_days(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "points")
    for days_ago in (31, 30, 29, 3):
        ledger.charge(account_id, 1, "declined", NOON - days_ago * DAY, is_reattempt=True)
    ledger.charge(account_id, 1, "declined", NOON - 2 * DAY)
    assert list(card_facts(ledger.connection, "card", NOON).reattempts_30d) == [NOON - 29 * DAY, NOON - 3 * DAY]


def test_a_card_that_asks_for_the_holder_has_failed(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "points")
    ledger.charge(account_id, 1, "needs_customer", NOON - HOUR)
    assert card_facts(ledger.connection, "card", NOON).last_failure_at == NOON - HOUR


def test_an_attempt_without_an_outcome_is_in_flight_however_old_it_is(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "points")
    ledger.charge(account_id, 1, "needs_review", NOON - 40 * DAY)
    assert card_facts(ledger.connection, "card", NOON).in_flight_since == NOON - 40 * DAY


def test_a_decline_is_remembered_until_something_follows_it(ledger: Ledger) -> None:
    """Otherwise the next try of a card that was declined long ago would count as a first one."""
    account_id = open_account(ledger.connection, "anna", "points")
    ledger.charge(account_id, 1, "succeeded", NOON - 50 * DAY)
    ledger.charge(account_id, 1, "declined", NOON - 40 * DAY)
    assert card_facts(ledger.connection, "card", NOON).was_declined


def test_a_stop_and_the_issuers_wish_are_known(ledger: Ledger) -> None:
    ledger.connection.execute(
        "insert into refill.card_state (fingerprint, not_before, stop, stop_reason, stopped_at)"
        " values ('card', %s, 'never', 'reported lost', %s)",
        (NOON + DAY, NOON),
    )
    card = card_facts(ledger.connection, "card", NOON)
    assert (card.stop, card.stop_reason, card.not_before) == ("never", "reported lost", NOON + DAY)


def test_a_card_that_nobody_has_used_is_known_for_nothing(ledger: Ledger) -> None:
    card = card_facts(ledger.connection, "new", NOON)
    assert (card.stop, card.not_before, card.in_flight_since, list(card.attempts_24h)) == (None, None, None, [])


def test_a_managed_account_bills_the_system_account_of_its_organisation(ledger: Ledger) -> None:
    system, managed = (open_account(ledger.connection, name, "points") for name in ("acme-system", "managed"))
    ledger.connection.execute("update refill.account set is_system = true where account_id = %s", (system,))
    ledger.connection.execute("update refill.account set tier = 'managed' where account_id = %s", (managed,))
    ledger.save_card(managed, "own")
    assert card_to_bill(ledger.connection, managed) is None
    ledger.save_card(system, "managers")
    card = card_to_bill(ledger.connection, managed)
    assert card is not None
    assert card.fingerprint == "managers"


def test_a_closed_account_has_no_trigger(ledger: Ledger) -> None:
    account_id = open_account(ledger.connection, "anna", "points", recharge_below=500)
    assert gather(ledger.connection, account_id, None, NOON).facts.recharge_below == 500
    ledger.connection.execute("update refill.account set closed_at = %s where account_id = %s", (NOON, account_id))
    assert gather(ledger.connection, account_id, None, NOON).facts.recharge_below is None
