"""What a spend event comes to: its outcome, its shortfall, and the lots that it draws."""

from __future__ import annotations

import psycopg
import pytest

from tests.ledger.books import BIGINT_MAX, DAY, T0, Answer, Books, Spend, both_ways

pytestmark = both_ways


def test_credit_that_is_there_is_spent(books: Books) -> None:
    books.open("a")
    books.grant("a", 100)
    assert books.spend("a", 30) == Answer("accepted", 70, 30, 100, 0)
    assert books.balance("a") == 70


def test_the_whole_balance_can_be_spent(books: Books) -> None:
    books.open("a")
    books.grant("a", 100)
    assert books.spend("a", 100) == Answer("accepted", 0, 100, 100, 0)


def test_credit_that_does_not_suffice_is_not_spent_in_part(books: Books) -> None:
    books.open("a")
    books.grant("a", 100)
    assert books.spend("a", 101) == Answer("insufficient_credit", 100, 101, 100, 1)
    assert books.balance("a") == 100
    assert books.entries("a") == []


def test_an_account_without_credit_lacks_the_whole_amount(books: Books) -> None:
    books.open("a")
    assert books.spend("a", 7) == Answer("insufficient_credit", 0, 7, 0, 7)


def test_an_unknown_account_is_refused_and_kept_by_its_name(books: Books) -> None:
    assert books.spend("nobody", 7) == Answer("unknown_account", None, 7, None, None)
    assert books.rows("select account, outcome from refill.spend_outcome") == [("nobody", "unknown_account")]


def test_a_closed_account_is_refused_whatever_it_holds(books: Books) -> None:
    books.open("a")
    books.grant("a", 100)
    books.change("a", closed_at=T0)
    assert books.spend("a", 7) == Answer("account_closed", None, 7, None, None)
    assert books.balance("a") == 100


def test_a_refusal_is_an_event_for_upstream(books: Books) -> None:
    books.open("a")
    books.spend("a", 7, "e1")
    assert books.rows("select type, data from refill.event_log") == [
        (
            "spend.refused",
            {"event_id": "e1", "code": "insufficient_credit", "required": 7, "available": 0, "shortfall": 7},
        )
    ]


def test_the_order_of_arrival_decides_who_gets_the_last_credit(books: Books) -> None:
    books.open("a")
    books.grant("a", 100)
    first = Spend("e1", "a", 60)
    second = Spend("e2", "a", 50)
    third = Spend("e3", "a", 40)
    answers = books.post(first, second, third)
    assert [(x.outcome, x.balance) for x in answers] == [
        ("accepted", 40),
        ("insufficient_credit", 40),
        ("accepted", 0),
    ]
    assert answers[1].shortfall == 10


def test_each_account_of_a_batch_has_its_own_order(books: Books) -> None:
    for name in ("a", "b"):
        books.open(name)
        books.grant(name, 10)
    answers = books.post(Spend("1", "b", 6), Spend("2", "a", 1), Spend("3", "b", 6), Spend("4", "a", 9))
    assert [x.outcome for x in answers] == ["accepted", "accepted", "insufficient_credit", "accepted"]
    assert (books.balance("a"), books.balance("b")) == (0, 4)


def test_accounts_of_several_programs_are_posted_in_one_batch(books: Books) -> None:
    books.open("a", "mail")
    books.open("b", "sms")
    books.grant("a", 10)
    books.grant("b", 10)
    assert [x.balance for x in books.post(Spend("same", "a", 1), Spend("same", "b", 2))] == [9, 8]


def test_an_empty_batch_is_nothing(books: Books) -> None:
    empty = "select count(*) from refill.post_spend('{}', '{}', '{}', '{}', '{}', '{}', '{}')"
    assert books.value(empty) == 0


def test_an_event_without_an_amount_is_refused_and_not_passed_over(books: Books) -> None:
    books.open("a")
    with pytest.raises(psycopg.errors.NotNullViolation):
        books.run(
            "select refill.post_spend('{e1}', '{a}', '{null}', null, null, null, null, p_set_min => %s)",
            (books.set_min,),
        )


def test_the_soonest_expiry_is_drawn_first_and_no_expiry_last(books: Books) -> None:
    books.open("a")
    never = books.grant("a", 10)
    late = books.grant("a", 10, expires_at=T0 + 20 * DAY)
    soon = books.grant("a", 10, expires_at=T0 + 10 * DAY)
    books.spend("a", 25)
    assert books.entries("a") == [(soon, 10, 20), (late, 10, 10), (never, 5, 5)]


def test_of_one_expiry_promotional_credit_is_drawn_before_paid(books: Books) -> None:
    books.open("a")
    paid = books.buy("a", 10)
    promotional = books.grant("a", 10, now=T0 + DAY)
    books.spend("a", 15, now=T0 + DAY)
    assert books.entries("a") == [(promotional, 10, 10), (paid, 5, 5)]


def test_paid_credit_that_expires_sooner_is_drawn_before_promotional(books: Books) -> None:
    books.open("a")
    promotional = books.grant("a", 10, expires_at=T0 + 20 * DAY)
    paid = books.buy("a", 10, expires_at=T0 + 10 * DAY)
    books.spend("a", 15)
    assert books.entries("a") == [(paid, 10, 10), (promotional, 5, 5)]


def test_of_one_class_the_oldest_is_drawn_first(books: Books) -> None:
    books.open("a")
    younger = books.grant("a", 10, now=T0 + DAY)
    older = books.grant("a", 10, now=T0)
    books.spend("a", 15, now=T0 + DAY)
    assert books.entries("a") == [(older, 10, 10), (younger, 5, 5)]


def test_of_one_age_the_lowest_lot_is_drawn_first(books: Books) -> None:
    books.open("a")
    first, second = books.grant("a", 10), books.grant("a", 10)
    books.spend("a", 15)
    assert books.entries("a") == [(first, 10, 10), (second, 5, 5)]


def test_events_of_one_batch_share_a_lot_at_its_edge(books: Books) -> None:
    books.open("a")
    first, second = books.grant("a", 10), books.grant("a", 10)
    books.post(Spend("e1", "a", 7), Spend("e2", "a", 7), Spend("e3", "a", 6))
    assert books.entries("a") == [(first, 7, 13), (first, 3, 10), (second, 4, 6), (second, 6, 0)]
    assert books.remaining("a") == {first: 0, second: 0}


def test_a_refused_event_between_two_draws_leaves_no_hole(books: Books) -> None:
    books.open("a")
    first, second = books.grant("a", 10), books.grant("a", 10)
    books.post(Spend("e1", "a", 5), Spend("e2", "a", 16), Spend("e3", "a", 10))
    assert books.entries("a") == [(first, 5, 15), (first, 5, 10), (second, 5, 5)]


def test_what_upstream_says_of_an_event_is_kept_and_orders_nothing(books: Books) -> None:
    books.open("a")
    books.grant("a", 100)
    earlier = Spend("e2", "a", 60, T0 - DAY, "order 2", "a memo", "ada")
    answers = books.post(Spend("e1", "a", 60, T0), earlier)
    assert [x.outcome for x in answers] == ["accepted", "insufficient_credit"]
    kept = books.rows("select spent_at, ref, memo, actor, posted_at from refill.spend_event where event_id = 'e2'")
    assert kept == [(T0 - DAY, "order 2", "a memo", "ada", T0)]


def test_the_history_shows_each_draw_with_its_event(books: Books) -> None:
    books.open("a")
    lot_id = books.grant("a", 100)
    books.post(Spend("e1", "a", 60, None, "order 1", "a memo", "ada"))
    shown = books.rows(
        "select kind, amount, balance_after, lot_id, event_id, ref, memo, actor from refill.entry_history"
        " order by entry_id"
    )
    assert shown == [
        ("promotion", 100, 100, lot_id, None, None, None, "tester"),
        ("spend", -60, 40, lot_id, "e1", "order 1", "a memo", "ada"),
    ]


def test_the_largest_amounts_that_can_be_written_are_exact(books: Books) -> None:
    books.open("a")
    books.grant("a", BIGINT_MAX)
    assert books.spend("a", BIGINT_MAX - 1) == Answer("accepted", 1, BIGINT_MAX - 1, BIGINT_MAX, 0)
    assert books.spend("a", BIGINT_MAX) == Answer("insufficient_credit", 1, BIGINT_MAX, 1, BIGINT_MAX - 1)


def test_a_batch_may_ask_for_more_than_a_number_can_hold(books: Books) -> None:
    books.open("a")
    books.grant("a", BIGINT_MAX)
    answers = books.post(*(Spend(f"e{i}", "a", BIGINT_MAX) for i in range(3)))
    assert [x.outcome for x in answers] == ["accepted", "insufficient_credit", "insufficient_credit"]
    assert answers[2].shortfall == BIGINT_MAX


def test_a_balance_that_no_number_could_hold_is_refused_whole(books: Books) -> None:
    books.open("a")
    books.grant("a", BIGINT_MAX)
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        books.grant("a", 1)
    assert books.balance("a") == BIGINT_MAX


def test_one_grant_to_several_accounts_gives_each_its_own_lot(books: Books) -> None:
    books.open("a")
    books.open("b")
    (lot_a, balance_a), (lot_b, balance_b) = books.grants(["a", "b"], [10, 20])
    assert (balance_a, balance_b) == (10, 20)
    assert (books.remaining("a"), books.remaining("b")) == ({lot_a: 10}, {lot_b: 20})


def test_a_grant_that_names_an_account_twice_is_refused(books: Books) -> None:
    books.open("a")
    with pytest.raises(psycopg.errors.DataException, match="once"):
        books.grants(["a", "a"], [10, 20])
    assert books.balance("a") == 0


def test_a_grant_to_an_account_that_does_not_exist_is_refused(books: Books) -> None:
    account_id = books.open("a")
    grant = (
        "select refill.post_grants(%s::bigint[], '{1,1}', '{infinity,infinity}', '{0,0}', 'promotion',"
        " null, null, null, 'me')"
    )
    with pytest.raises(psycopg.errors.DataException, match="once"):
        books.run(grant, ([account_id, 99],))
    assert books.balance("a") == 0
