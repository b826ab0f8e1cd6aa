"""`refill.spend`, called by upstream inside a transaction of its own."""

from __future__ import annotations

from typing import LiteralString

import pytest

from tests.ledger.books import Books, Spend

CALL = "select outcome, balance, required, available, shortfall from refill.spend(%s, %s::bigint, %s, %s, %s)"


@pytest.fixture
def ledger(books: Books) -> Books:
    books.open("a")
    books.grant("a", 100)
    return books


def test_it_answers_with_one_row(ledger: Books) -> None:
    assert ledger.rows(CALL, ("a", 30, "e1", None, None)) == [("accepted", 70, 30, 100, 0)]
    assert ledger.rows(CALL, ("a", 71, "e2", None, None)) == [("insufficient_credit", 70, 71, 70, 1)]
    assert ledger.rows(CALL, ("nobody", 1, "e3", None, None)) == [("unknown_account", None, 1, None, None)]


def test_ref_and_memo_may_be_left_out(ledger: Books) -> None:
    assert ledger.value("select outcome from refill.spend('a', 1, 'e1')") == "accepted"
    ledger.run("select refill.spend('a', 1, 'e2', memo => 'why')")
    kept = ledger.rows("select ref, memo from refill.spend_event order by event_id")
    assert kept == [(None, None), (None, "why")]


def test_what_upstream_rolls_back_never_happened(ledger: Books) -> None:
    with ledger.connection.transaction(force_rollback=True):
        assert ledger.rows(CALL, ("a", 30, "e1", None, None))[0][0] == "accepted"
    assert ledger.balance("a") == 100
    assert ledger.rows("select * from refill.spend_outcome") == []
    assert ledger.rows(CALL, ("a", 31, "e1", None, None))[0][0] == "accepted", "the id is free again"


def test_what_upstream_commits_is_committed_with_its_own_rows(ledger: Books) -> None:
    with ledger.connection.transaction():
        ledger.run("create temporary table upstream_order (order_id text)")
        ledger.run(CALL, ("a", 30, "e1", None, None))
        ledger.run("insert into upstream_order values ('e1')")
    found = ledger.rows(
        "select order_id, balance_after from upstream_order join refill.spend_outcome on event_id = order_id"
    )
    assert found == [("e1", 70)]


def test_several_spends_of_one_transaction_follow_each_other(ledger: Books) -> None:
    with ledger.connection.transaction():
        balances = [ledger.rows(CALL, ("a", 40, f"e{i}", None, None))[0][:2] for i in range(3)]
    assert balances == [("accepted", 60), ("accepted", 20), ("insufficient_credit", 20)]


def test_it_is_the_same_ledger_as_the_stream_s(ledger: Books) -> None:
    ledger.run(CALL, ("a", 30, "e1", "r", "m"))
    assert ledger.post(Spend("e1", "a", 30, None, "r", "m"), now=None)[0].balance == 70
    assert ledger.post(Spend("e1", "a", 30, None, "r", "x"), now=None)[0].outcome == "conflict"


@pytest.mark.parametrize(
    ("account", "amount", "event_id"),
    [
        ("a", 0, "e1"),
        ("a", -5, "e1"),
        ("a", None, "e1"),
        ("a", 1, None),
        ("a", 1, ""),
        ("a", 1, "x" * 65),
        (None, 1, "e1"),
        ("", 1, "e1"),
        ("x" * 65, 1, "e1"),
    ],
)
def test_what_cannot_be_a_spend_is_malformed_and_not_kept(
    ledger: Books, account: str | None, amount: int | None, event_id: str | None
) -> None:
    assert ledger.rows(CALL, (account, amount, event_id, None, None)) == [("malformed", None, amount, None, None)]
    assert ledger.rows("select * from refill.spend_event") == []


@pytest.mark.parametrize(("ref", "memo"), [("r" * 501, None), (None, "m" * 501)])
def test_a_text_longer_than_the_stream_takes_is_malformed_here_too(
    ledger: Books, ref: str | None, memo: str | None
) -> None:
    assert ledger.rows(CALL, ("a", 5, "e1", ref, memo))[0][0] == "malformed"


def test_the_longest_names_are_counted_in_characters(ledger: Books) -> None:
    ledger.open("é" * 64)
    ledger.grant("é" * 64, 5)
    assert ledger.rows(CALL, ("é" * 64, 5, "ü" * 64, None, None))[0][0] == "accepted"


def test_it_can_be_called_with_any_search_path(ledger: Books) -> None:
    ledger.run("set search_path = ''")
    assert ledger.rows(CALL, ("a", 1, "e1", None, None))[0][0] == "accepted"


@pytest.mark.parametrize(
    "post",
    [
        "select refill.spend('p', 1, %(id)s)",
        "select refill.post_spend(array[%(id)s], '{p}', '{1}', null, null, null, null, p_set_min => 1)",
    ],
    ids=["one by one", "as a set"],
)
def test_a_day_of_silence_is_24_hours_in_whatever_time_zone_it_is_called(books: Books, post: LiteralString) -> None:
    books.open("p", "points", idle_days=1)
    books.grant("p", 100, now=None)
    books.run("set timezone = 'America/New_York'")
    for months in range(12):  # the clocks there change twice within them
        books.run("update refill.program set expiry_days = %s", (1 + 30 * months,))
        books.run(post, {"id": f"e{months}"})
        hours = books.value("select extract(epoch from idle_expires_at - updated_at) / 3600 from refill.account")
        assert hours == 24 * (1 + 30 * months)
    books.run("reset timezone")


def test_the_caller_s_settings_do_not_silence_a_crossing(books: Books) -> None:
    books.open("a", email="a@example.com", recharge_below=50)
    books.grant("a", 100)
    books.run("delete from refill.watch")
    with books.connection.transaction():
        books.run("set local refill.announced_by = 'function'")
        books.run(CALL, ("a", 100, "e1", None, None))
    assert (books.messages("a"), books.is_watched("a")) == (["depleted"], True)
