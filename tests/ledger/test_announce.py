"""What a change of a balance sets off, in the transaction of its cause: events, messages, and the sweep's attention."""

from __future__ import annotations

from datetime import datetime

import psycopg
import pytest
from psycopg.types.json import Jsonb

from jobs.ledger.database import connect
from tests.ledger.books import DAY, HOUR, MINUTE, T0, Books, both_ways

pytestmark = both_ways

CLEAR = 110  # the first balance that is clear of a level of 100


@pytest.fixture
def ledger(books: Books) -> Books:
    """Account `a`, at 200 with an alert level of 100, told at a@example.com."""
    books.open("a", alert_below=100, email="a@example.com")
    books.grant("a", 200)
    return books


def _bring_to(books: Books, balance: int, now: datetime) -> None:
    difference = balance - books.balance("a")
    if difference > 0:
        books.grant("a", difference, now=now)
    elif difference < 0:
        books.spend("a", -difference, now=now)


def test_a_fall_below_the_level_is_told_once(ledger: Books) -> None:
    ledger.spend("a", 101)
    ledger.spend("a", 1)
    assert ledger.messages("a") == ["low"]
    assert ledger.events("a") == ["balance.replenished", "balance.low"]


def test_the_level_itself_is_not_below_it(ledger: Books) -> None:
    ledger.spend("a", 100)
    assert ledger.messages("a") == []


def test_a_message_says_which_account_and_what_it_has(ledger: Books) -> None:
    ledger.spend("a", 150)
    row = ledger.rows("select to_address, state, data from refill.message")
    data = {"account": "a", "program": "mail", "balance": 50, "alert_below": 100, "event_id": "event-1"}
    assert row == [("a@example.com", "pending", data)]


def test_an_account_without_an_address_keeps_its_message_unaddressed(books: Books) -> None:
    books.open("a", alert_below=100)
    books.grant("a", 200)
    books.spend("a", 150)
    assert books.rows("select to_address, state from refill.message") == [(None, "unaddressed")]


def test_an_account_without_a_level_is_never_low(books: Books) -> None:
    books.open("a")
    books.grant("a", 200)
    books.spend("a", 199)
    assert books.messages("a") == []


def test_a_balance_that_swings_about_the_level_is_told_once(ledger: Books) -> None:
    for swing in range(5):
        _bring_to(ledger, 99, T0 + swing * HOUR)
        _bring_to(ledger, CLEAR - 1, T0 + swing * HOUR + 30 * MINUTE)
    assert ledger.messages("a") == ["low"]
    assert ledger.events("a").count("balance.low") == 1


def test_the_alert_re_arms_when_the_balance_was_clear_of_the_level_for_15_minutes(ledger: Books) -> None:
    _bring_to(ledger, 99, T0)
    _bring_to(ledger, CLEAR, T0 + DAY)
    _bring_to(ledger, 99, T0 + DAY + 15 * MINUTE)
    assert ledger.messages("a") == ["low", "low"]


def test_the_alert_does_not_re_arm_a_moment_earlier(ledger: Books) -> None:
    _bring_to(ledger, 99, T0)
    _bring_to(ledger, CLEAR, T0 + DAY)
    _bring_to(ledger, 99, T0 + DAY + 14 * MINUTE)
    assert ledger.messages("a") == ["low"]


def test_only_time_spent_clear_of_the_level_counts(ledger: Books) -> None:
    _bring_to(ledger, 99, T0)
    _bring_to(ledger, CLEAR, T0 + DAY)
    _bring_to(ledger, CLEAR - 1, T0 + DAY + 10 * MINUTE)
    _bring_to(ledger, CLEAR, T0 + DAY + 11 * MINUTE)
    _bring_to(ledger, 99, T0 + DAY + 20 * MINUTE)
    assert ledger.messages("a") == ["low"]


@pytest.mark.parametrize(("level", "clear"), [(100, 110), (101, 112), (109, 120), (1, 2), (10, 11)])
def test_clear_of_a_level_is_a_tenth_above_it_rounded_up(books: Books, level: int, clear: int) -> None:
    books.open("a", alert_below=level)
    bands = []
    for balance in (level - 1, level, clear - 1, clear):
        _bring_to(books, balance, T0)
        bands.append(books.value("select band from refill.account where name = 'a'"))
    assert bands == [1 if level > 1 else 0, 2, 2, 3]


def test_a_second_fall_within_a_day_is_an_event_without_a_message(ledger: Books) -> None:
    _bring_to(ledger, 99, T0)
    _bring_to(ledger, 200, T0 + HOUR)
    _bring_to(ledger, 99, T0 + 2 * HOUR)
    assert ledger.messages("a") == ["low"]
    assert ledger.events("a").count("balance.low") == 2


def test_a_fall_a_day_later_is_told_again(ledger: Books) -> None:
    _bring_to(ledger, 99, T0)
    _bring_to(ledger, 200, T0 + HOUR)
    _bring_to(ledger, 99, T0 + DAY)
    assert ledger.messages("a") == ["low", "low"]


def test_a_depletion_is_told_each_time_and_never_held_back(ledger: Books) -> None:
    for minute in range(3):
        _bring_to(ledger, 0, T0 + minute * MINUTE)
        _bring_to(ledger, 5, T0 + minute * MINUTE)
    assert ledger.messages("a") == ["depleted"] * 3
    assert ledger.events("a")[1:] == ["balance.depleted", "balance.replenished"] * 3


def test_a_depletion_is_no_low_alert_as_well(ledger: Books) -> None:
    ledger.spend("a", 200)
    assert ledger.messages("a") == ["depleted"]


def test_a_depletion_is_the_fall_below_the_level_until_the_alert_re_arms(ledger: Books) -> None:
    _bring_to(ledger, 0, T0)
    _bring_to(ledger, CLEAR - 1, T0 + HOUR)
    _bring_to(ledger, 99, T0 + 2 * HOUR)
    assert ledger.messages("a") == ["depleted"]


def test_credit_that_brings_an_account_out_of_low_replenishes_it(ledger: Books) -> None:
    _bring_to(ledger, 50, T0)
    _bring_to(ledger, 60, T0)
    _bring_to(ledger, 100, T0)
    assert ledger.events("a")[1:] == ["balance.low", "balance.replenished"]


def test_a_batch_is_announced_by_where_it_leaves_the_balance(ledger: Books) -> None:
    ledger.grant("a", 100)
    ledger.spend("a", 300)
    assert ledger.messages("a") == ["depleted"]


def test_raising_the_level_above_the_balance_is_a_fall_below_it(ledger: Books) -> None:
    ledger.change("a", alert_below=201)
    assert ledger.messages("a") == ["low"]


def test_a_closed_account_is_told_nothing(ledger: Books) -> None:
    ledger.grant("a", 10, expires_at=T0 + DAY)
    ledger.change("a", closed_at=T0, recharge_below=500)
    ledger.expire("a", now=T0 + DAY)
    assert (ledger.messages("a"), ledger.is_watched("a")) == ([], False)


def test_falling_below_the_trigger_puts_an_account_before_the_sweep_at_once(ledger: Books) -> None:
    ledger.change("a", recharge_below=50)
    ledger.spend("a", 150)
    assert not ledger.is_watched("a")
    ledger.spend("a", 1, now=T0 + HOUR)
    assert ledger.rows("select due_at, since from refill.watch") == [(T0 + HOUR, T0 + HOUR)]


def test_raising_the_trigger_above_the_balance_puts_it_before_the_sweep(ledger: Books) -> None:
    ledger.change("a", recharge_below=201)
    assert ledger.is_watched("a")


def test_an_account_opened_with_a_trigger_is_before_the_sweep_from_the_start(books: Books) -> None:
    books.open("a")
    books.run(
        "insert into refill.account (name, program_id, organisation_id, recharge_below)"
        " select 'b', program_id, organisation_id, 50 from refill.account"
    )
    assert (books.is_watched("a"), books.is_watched("b")) == (False, True)


def test_expiry_and_not_only_spend_crosses_levels(books: Books) -> None:
    books.open("a", alert_below=100, recharge_below=50)
    books.grant("a", 40)
    books.change("a", recharge_below=None)
    books.grant("a", 200, expires_at=T0 + DAY)
    books.change("a", recharge_below=50)
    books.run("delete from refill.watch")
    books.expire("a", now=T0 + DAY)
    assert (books.messages("a"), books.is_watched("a")) == (["low"], True)


def test_what_a_spend_sets_off_is_rolled_back_with_it(ledger: Books) -> None:
    ledger.change("a", recharge_below=50)
    with ledger.connection.transaction(force_rollback=True):
        ledger.spend("a", 199)
        assert (ledger.messages("a"), ledger.is_watched("a")) == (["low"], True)
    assert (ledger.messages("a"), ledger.is_watched("a"), ledger.balance("a")) == ([], False, 200)
    assert ledger.events("a") == ["balance.replenished"]


def _poked(listener: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    listener.execute("select 1")
    return sorted(poke.payload for poke in listener.notifies(timeout=0))


def test_pokes_are_heard_when_the_spend_is_committed_and_not_before(ledger: Books, ledger_url: str) -> None:
    ledger.change("a", recharge_below=50)
    with connect(ledger_url) as listener:
        listener.execute("listen refill_poke")
        with ledger.connection.transaction():
            ledger.spend("a", 199)
            assert _poked(listener) == []
        message_id = ledger.value("select message_id from refill.message")
        assert _poked(listener) == [f"deliver {message_id}", f"evaluate {ledger.account_id('a')}", "publish"]


def test_a_spend_that_crosses_nothing_pokes_nobody(ledger: Books, ledger_url: str) -> None:
    with connect(ledger_url) as listener:
        listener.execute("listen refill_poke")
        ledger.spend("a", 1)
        assert _poked(listener) == []


def test_an_event_has_no_number_until_it_is_sequenced(ledger: Books) -> None:
    ledger.run("select refill.record_event('test', 1, now(), %s)", (Jsonb({}),))
    assert ledger.rows("select distinct seq from refill.event_log") == [(None,)]
    assert ledger.rows("select * from refill.event") == []
