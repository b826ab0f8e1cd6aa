"""Idempotency: a known id gets its first outcome again, other content is a conflict, and nothing is posted twice."""

from __future__ import annotations

import pytest

from tests.ledger.books import DAY, T0, Answer, Books, Spend, both_ways

pytestmark = both_ways

FIRST = Spend("e1", "a", 30, T0 - DAY, "ref", "memo", "ada")


@pytest.fixture
def ledger(books: Books) -> Books:
    books.open("a")
    books.open("b")
    books.grant("a", 100)
    books.grant("b", 100)
    return books


def test_a_replay_of_an_accepted_event_gets_its_answer_and_posts_nothing(ledger: Books) -> None:
    first = ledger.post(FIRST)
    ledger.spend("a", 20)
    assert ledger.post(FIRST, now=T0 + DAY) == first
    assert ledger.balance("a") == 50


def test_a_replay_of_a_refusal_is_refused_though_credit_has_come(ledger: Books) -> None:
    first = ledger.spend("a", 101, "e1")
    ledger.grant("a", 100)
    assert ledger.spend("a", 101, "e1") == first == Answer("insufficient_credit", 100, 101, 100, 1)
    assert ledger.balance("a") == 200


def test_a_replay_on_an_account_opened_since_stays_unknown(ledger: Books) -> None:
    first = ledger.spend("late", 10, "e1")
    ledger.open("late")
    ledger.grant("late", 100)
    assert ledger.spend("late", 10, "e1") == first == Answer("unknown_account", None, 10, None, None)
    assert ledger.spend("late", 11, "e1").outcome == "conflict"
    assert ledger.balance("late") == 100


def test_a_replay_on_an_account_reopened_since_stays_closed(ledger: Books) -> None:
    ledger.change("a", closed_at=T0)
    first = ledger.spend("a", 10, "e1")
    ledger.change("a", closed_at=None)
    assert ledger.spend("a", 10, "e1") == first == Answer("account_closed", None, 10, None, None)


def test_a_replay_on_an_account_closed_since_gets_its_first_outcome(ledger: Books) -> None:
    first = ledger.spend("a", 10, "e1")
    ledger.change("a", closed_at=T0)
    assert ledger.spend("a", 10, "e1") == first


@pytest.mark.parametrize(
    "other",
    [
        FIRST._replace(account="b"),
        FIRST._replace(account="nobody"),
        FIRST._replace(amount=31),
        FIRST._replace(spent_at=T0),
        FIRST._replace(spent_at=None),
        FIRST._replace(ref="other"),
        FIRST._replace(ref=None),
        FIRST._replace(memo="other"),
        FIRST._replace(memo=None),
        FIRST._replace(actor="bob"),
        FIRST._replace(actor=None),
    ],
    ids=lambda s: ",".join(f"{k}={v}" for k, v in s._asdict().items() if v != getattr(FIRST, k)),
)
def test_a_known_id_with_other_content_is_a_conflict(ledger: Books, other: Spend) -> None:
    ledger.post(FIRST)
    outcomes = {other.account: "unknown_account"} if other.account == "nobody" else {}
    assert ledger.post(other)[0].outcome == outcomes.get(other.account, "conflict")
    assert (ledger.balance("a"), ledger.balance("b")) == (70, 100)


def test_a_conflict_keeps_the_first_outcome(ledger: Books) -> None:
    first = ledger.post(FIRST)
    ledger.post(FIRST._replace(amount=31))
    assert ledger.post(FIRST) == first


def test_a_conflict_says_nothing_of_a_balance(ledger: Books) -> None:
    ledger.post(FIRST)
    assert ledger.post(FIRST._replace(amount=31)) == [Answer("conflict", None, 31, None, None)]


def test_a_second_event_of_its_id_in_a_batch_is_a_replay(ledger: Books) -> None:
    answers = ledger.post(FIRST, Spend("e2", "a", 1), FIRST)
    assert answers[2] == answers[0]
    assert ledger.balance("a") == 69


def test_a_refused_event_twice_in_a_batch_is_refused_once(ledger: Books) -> None:
    answers = ledger.post(Spend("e1", "a", 101), Spend("e1", "a", 101))
    assert answers[0] == answers[1]
    assert ledger.events("a").count("spend.refused") == 1


def test_a_second_event_of_its_id_with_other_content_in_a_batch_is_a_conflict(ledger: Books) -> None:
    answers = ledger.post(FIRST, FIRST._replace(amount=1), FIRST._replace(account="b"))
    assert [x.outcome for x in answers] == ["accepted", "conflict", "conflict"]
    assert (ledger.balance("a"), ledger.balance("b")) == (70, 100)


def test_the_first_of_an_id_in_a_batch_is_the_one_that_counts(ledger: Books) -> None:
    answers = ledger.post(FIRST._replace(account="b"), FIRST)
    assert [x.outcome for x in answers] == ["accepted", "conflict"]
    assert (ledger.balance("a"), ledger.balance("b")) == (100, 70)


def test_one_id_on_two_unknown_accounts_is_a_conflict(ledger: Books) -> None:
    assert ledger.spend("nobody", 5, "e1").outcome == "unknown_account"
    assert ledger.spend("nowhere", 5, "e1").outcome == "conflict"
    assert ledger.spend("nobody", 5, "e1").outcome == "unknown_account"


def test_an_id_belongs_to_its_program(ledger: Books) -> None:
    ledger.open("c", "sms")
    ledger.grant("c", 100)
    assert ledger.spend("a", 30, "e1").outcome == "accepted"
    assert ledger.spend("c", 40, "e1").outcome == "accepted"


def test_replays_and_conflicts_between_new_events_do_not_disturb_them(ledger: Books) -> None:
    ledger.post(FIRST)
    answers = ledger.post(
        Spend("e2", "a", 10), FIRST, Spend("e3", "a", 60), FIRST._replace(amount=1), Spend("e4", "a", 1)
    )
    assert [x.outcome for x in answers] == ["accepted", "accepted", "accepted", "conflict", "insufficient_credit"]
    assert [x.balance for x in answers] == [60, 70, 0, None, 0]
