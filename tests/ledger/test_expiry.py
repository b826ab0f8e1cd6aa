"""Dead credit: half-open, never spendable nor visible, booked before whatever else posts to its account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.ledger.books import DAY, T0, Answer, Books, both_ways

pytestmark = both_ways

DEATH = T0 + 10 * DAY
INSTANT = timedelta(microseconds=1)


def test_a_lot_can_be_spent_until_the_last_instant_before_its_expiry(books: Books) -> None:
    books.open("a")
    books.grant("a", 10, expires_at=DEATH)
    assert books.spend("a", 10, now=DEATH - INSTANT).outcome == "accepted"


def test_a_lot_is_dead_at_its_expiry_though_no_sweep_has_been(books: Books) -> None:
    books.open("a")
    books.grant("a", 10, expires_at=DEATH)
    assert books.spend("a", 1, now=DEATH) == Answer("insufficient_credit", 0, 1, 0, 1)


def test_the_expiry_is_booked_before_the_spend_that_met_it(books: Books) -> None:
    books.open("a")
    dying = books.grant("a", 10, expires_at=DEATH)
    living = books.grant("a", 5)
    assert books.spend("a", 2, now=DEATH) == Answer("accepted", 3, 2, 5, 0)
    rows = books.rows(
        "select kind::text, lot_id, amount, from_balance, at from refill.entry where from_side > 0 order by entry_id"
    )
    assert rows == [("expiry", dying, 10, 5, DEATH), ("spend", living, 2, 3, DEATH)]


def test_the_expiry_is_booked_before_the_grant_that_met_it(books: Books) -> None:
    books.open("a")
    books.grant("a", 10, expires_at=DEATH)
    assert books.grants(["a"], [7], now=DEATH)[0][1] == 7
    assert books.entries("a", "expiry") == [(1, 10, 0)]


def test_several_dead_lots_are_booked_one_by_one_to_breakage(books: Books) -> None:
    books.open("a")
    later = books.grant("a", 10, expires_at=DEATH)
    sooner = books.grant("a", 20, expires_at=DEATH - DAY)
    books.spend("a", 5)
    assert books.expire("a", now=DEATH) == (2, 25)
    assert books.entries("a", "expiry") == [(sooner, 15, 10), (later, 10, 0)]
    sides = books.rows("select distinct refill.own_side_name(to_side) from refill.entry where kind = 'expiry'")
    assert sides == [("breakage",)]


def test_an_expiry_is_one_event_per_account(books: Books) -> None:
    books.open("a")
    books.grant("a", 10, expires_at=DEATH)
    books.grant("a", 20, expires_at=DEATH)
    books.expire("a", now=DEATH)
    assert books.rows("select data from refill.event_log where type = 'credit.expired'") == [
        ({"credits": 30, "lots": 2},)
    ]


def test_what_is_dead_is_booked_once(books: Books) -> None:
    books.open("a")
    books.grant("a", 10, expires_at=DEATH)
    assert [books.expire("a", now=DEATH) for _ in range(2)] == [(1, 10), (0, 0)]


def test_the_next_expiry_is_known_after_each(books: Books) -> None:
    books.open("a")
    books.grant("a", 10, expires_at=DEATH)
    books.grant("a", 10, expires_at=DEATH + DAY)
    next_expiry = "select expires_next::text from refill.account"
    assert books.value(next_expiry) == "2026-01-11 00:00:00+00"
    books.expire("a", now=DEATH)
    assert books.value(next_expiry) == "2026-01-12 00:00:00+00"
    books.expire("a", now=DEATH + DAY)
    assert books.value(next_expiry) == "infinity"


def test_a_refused_event_still_books_what_died(books: Books) -> None:
    books.open("a")
    books.grant("a", 10, expires_at=DEATH)
    books.spend("a", 11, now=DEATH)
    assert books.balance("a") == 0


def test_dead_credit_is_not_visible_though_nothing_has_booked_it(books: Books) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    books.open("a")
    books.grant("a", 10, now=past, expires_at=past + DAY)
    books.grant("a", 5, now=past)
    assert books.rows("select balance, state, next_expiry_at from refill.balance") == [(5, "ok", None)]
    assert books.balance("a") == 15, "the sweep has not been"


def test_the_view_shows_what_will_die_next(books: Books) -> None:
    books.open("a")
    soon = datetime(2090, 1, 1, tzinfo=UTC)
    for amount, days in ((10, 0), (20, 0), (40, 1)):
        books.grant("a", amount, expires_at=soon + days * DAY)
    assert books.rows("select balance, next_expiry_at, next_expiry_amount from refill.balance") == [(70, soon, 30)]


def _idle_account(books: Books) -> None:
    books.open("a", "points", idle_days=10)
    books.buy("a", 100)


def test_all_credit_of_a_silent_account_dies_together(books: Books) -> None:
    _idle_account(books)
    books.grant("a", 5, now=T0 + 9 * DAY)
    assert books.spend("a", 1, now=DEATH - INSTANT).outcome == "accepted"
    assert books.spend("a", 1, now=DEATH + 10 * DAY) == Answer("insufficient_credit", 0, 1, 0, 1)


def test_a_spend_moves_the_moment(books: Books) -> None:
    _idle_account(books)
    books.spend("a", 1, now=T0 + 5 * DAY)
    assert books.spend("a", 1, now=T0 + 15 * DAY - INSTANT).outcome == "accepted"


def test_a_refused_spend_does_not_move_the_moment(books: Books) -> None:
    _idle_account(books)
    books.spend("a", 1, now=T0 + 5 * DAY)
    assert books.spend("a", 1_000, now=T0 + 14 * DAY).available == 99
    assert books.spend("a", 1, now=T0 + 15 * DAY).outcome == "insufficient_credit"


def test_a_purchase_moves_the_moment(books: Books) -> None:
    _idle_account(books)
    books.buy("a", 1, now=T0 + 5 * DAY)
    assert books.spend("a", 101, now=T0 + 15 * DAY - INSTANT).outcome == "accepted"


def test_a_replay_does_not_move_the_moment(books: Books) -> None:
    _idle_account(books)
    books.spend("a", 1, "e1", now=T0 + 5 * DAY)
    books.spend("a", 1, "e1", now=T0 + 14 * DAY)
    assert books.spend("a", 1, now=T0 + 15 * DAY).outcome == "insufficient_credit"


def test_a_gift_does_not_move_the_moment(books: Books) -> None:
    _idle_account(books)
    books.grant("a", 1, now=T0 + 9 * DAY)
    assert books.spend("a", 1, now=T0 + 10 * DAY).outcome == "insufficient_credit"


def test_a_gift_to_an_account_that_was_silent_too_long_lives_its_own_days(books: Books) -> None:
    _idle_account(books)
    books.grant("a", 7, now=T0 + 30 * DAY)
    assert books.spend("a", 7, now=T0 + 40 * DAY - INSTANT).outcome == "accepted"
    assert books.entries("a", "expiry") == [(1, 100, 0)]


def test_credit_of_a_silent_account_is_not_visible(books: Books) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    books.open("a", "points", idle_days=10)
    books.grant("a", 100, now=past)
    assert books.rows("select balance, state from refill.balance") == [(0, "depleted")]
