"""The history of accounts: complete, in order, in pages, and only for those who may see it."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from jobs.errors import UnknownAccount
from jobs.history import HistoryRow, Omitted, Period, omitted, rows
from jobs.viewer import (
    AmbiguousMember,
    NotPermitted,
    UnknownMember,
    check_visible,
    find_viewer,
    visible_accounts,
)
from tests.ledger.books import DAY, HOUR, MINUTE, T0, Books, Spend

ALWAYS = Period(T0 - 365 * DAY, T0 + 3650 * DAY)


def read(
    books: Books, *accounts: str, period: Period = ALWAYS, limit: int | None = None, page: int = 3
) -> list[HistoryRow]:
    return list(rows(books.connection, accounts, period, limit, page))


def test_every_entry_is_told_from_the_side_of_its_account_and_newest_last(books: Books) -> None:
    books.open("anna")
    gift = books.grant("anna", 100, expires_at=T0 + DAY)
    paid = books.buy("anna", 500, now=T0 + MINUTE)
    books.post(Spend("order-1", "anna", 130, None, "ref-1", "postcards", "ann"), now=T0 + HOUR)
    told = [(row.kind, row.amount, row.balance_after, row.lot_id, row.event_id) for row in read(books, "anna")]
    assert told == [
        ("promotion", 100, 100, gift, None),
        ("purchase", 500, 600, paid, None),
        ("spend", -100, 500, gift, "order-1"),
        ("spend", -30, 470, paid, "order-1"),
    ]
    last = read(books, "anna")[-1]
    assert (last.ref, last.memo, last.actor, last.at) == ("ref-1", "postcards", "ann", T0 + HOUR)


def test_an_expiry_and_the_charge_of_a_purchase_are_told(books: Books) -> None:
    books.open("anna")
    books.buy("anna", 500, expires_at=T0 + DAY)
    books.expire("anna", now=T0 + DAY)
    purchase, expiry = read(books, "anna")
    assert (expiry.kind, expiry.amount, expiry.balance_after) == ("expiry", -500, 0)
    assert purchase.charge_id == books.value("select charge_id from refill.charge")


def test_each_balance_follows_from_the_one_before_it(books: Books) -> None:
    books.open("anna")
    books.grant("anna", 40)
    books.grant("anna", 60)
    for number in range(9):
        books.spend("anna", 10, now=T0 + number * MINUTE)
    found = read(books, "anna")
    assert all(after.balance_after == before.balance_after + after.amount for before, after in pairwise(found))
    assert found[-1].balance_after == books.balance("anna")


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_it_says_what_the_view_for_other_services_says(books: Books, page: int) -> None:
    for name in ("anna", "bert"):
        books.open(name)
        books.grant(name, 30)
        books.grant(name, 30)
        books.post(*(Spend(f"{name}-{number}", name, 9, None, "r", "m", "a") for number in range(6)))
    view = books.rows(
        "select entry_id, at, account, kind, amount, balance_after, lot_id, event_id, ref, memo, actor"
        " from refill.entry_history order by account, entry_id"
    )
    assert [
        (r.entry_id, r.at, r.account, r.kind, r.amount, r.balance_after, r.lot_id, r.event_id, r.ref, r.memo, r.actor)
        for r in read(books, "anna", "bert", page=page)
    ] == view


def test_the_newest_entries_by_function_are_those_of_the_view_for_other_services(books: Books) -> None:
    for name in ("anna", "bert"):
        books.open(name)
        books.grant(name, 30, expires_at=T0 + DAY)
        books.grant(name, 30)
        books.post(*(Spend(f"{name}-{number}", name, 9, None, "r", "m", "a") for number in range(6)))
        books.expire(name, now=T0 + DAY)
    view = books.rows("select * from refill.entry_history where account = 'bert' order by entry_id desc")
    assert books.rows("select * from refill.newest_entries('bert')") == view
    assert books.rows("select * from refill.newest_entries('bert', 3)") == view[:3]
    assert books.rows("select * from refill.newest_entries('bert', 2, %s)", [view[2][0]]) == view[3:5]
    assert books.rows("select * from refill.newest_entries('nobody')") == []


def test_a_limit_keeps_the_newest_and_says_how_many_it_left_out(books: Books) -> None:
    books.open("anna")
    books.grant("anna", 100)
    for number in range(5):
        books.spend("anna", 1, f"e{number}")
    assert [row.event_id for row in read(books, "anna", limit=2)] == ["e3", "e4"]
    assert omitted(books.connection, "anna", ALWAYS, 2) == Omitted(4, is_more=False)
    assert omitted(books.connection, "anna", ALWAYS, 6) == Omitted(0, is_more=False)
    assert len(read(books, "anna", limit=7)) == 6


def test_counting_what_is_left_out_stops_somewhere(books: Books) -> None:
    books.open("anna")
    books.grant("anna", 100)
    for number in range(4):
        books.spend("anna", 1, f"e{number}")
    assert omitted(books.connection, "anna", ALWAYS, 2, counted_max=3) == Omitted(3, is_more=False)
    assert omitted(books.connection, "anna", ALWAYS, 1, counted_max=3) == Omitted(3, is_more=True)


def test_a_period_begins_with_its_first_moment_and_ends_before_its_last(books: Books) -> None:
    books.open("anna")
    books.grant("anna", 100)
    for hours in (1, 2, 3):
        books.spend("anna", 1, f"at-{hours}", now=T0 + hours * HOUR)
    period = Period(T0 + HOUR, T0 + 3 * HOUR)
    assert [row.event_id for row in read(books, "anna", period=period)] == ["at-1", "at-2"]
    assert [row.event_id for row in read(books, "anna", period=period, limit=1)] == ["at-2"]
    assert omitted(books.connection, "anna", period, 1) == Omitted(1, is_more=False)


def test_an_entry_that_comes_while_pages_are_read_is_told_at_the_end(books: Books) -> None:
    books.open("anna")
    books.grant("anna", 100)
    for number in range(3):
        books.spend("anna", 1, f"e{number}")
    reading = rows(books.connection, ["anna"], ALWAYS, page=2)
    first = next(reading)
    books.spend("anna", 1, "late")
    assert [row.event_id for row in [first, *reading]] == [None, "e0", "e1", "e2", "late"]


def test_an_account_that_nobody_knows_is_refused(books: Books) -> None:
    with pytest.raises(UnknownAccount):
        read(books, "nobody")


# Who may see what.


@pytest.fixture
def office(books: Books) -> Books:
    """`acme` with a system account and two users' accounts, `other` with one of its own; a member of each role."""
    for account, organisation in (("system", "acme"), ("anna", "acme"), ("bert", "acme"), ("foreign", "other")):
        books.open(account, organisation=organisation)
    books.change("system", is_system=True)
    members: list[tuple[str, str, str, list[str]]] = [
        ("acme", "chief", "master", []),
        ("acme", "lead", "manager", ["anna", "bert", "system"]),
        ("acme", "ann", "user", ["anna"]),
        ("acme", "new", "user", []),
        ("other", "ann", "master", []),
    ]
    for organisation, name, role, accounts in members:
        books.run(
            "insert into refill.member (organisation_id, name, role)"
            " select organisation_id, %s, %s from refill.organisation where name = %s",
            (name, role, organisation),
        )
        books.run(
            "insert into refill.member_account select m.member_id, a.account_id"
            " from refill.member m join refill.organisation o using (organisation_id), refill.account a"
            " where o.name = %s and m.name = %s and a.name = any(%s)",
            (organisation, name, accounts),
        )
    return books


@pytest.mark.parametrize(
    ("member", "sees"),
    [
        ("chief", ["anna", "bert", "system"]),
        ("lead", ["anna", "bert"]),
        ("acme/ann", ["anna"]),
        ("new", []),
        ("other/ann", ["foreign"]),
    ],
)
def test_a_member_sees_what_the_role_allows(office: Books, member: str, sees: list[str]) -> None:
    viewer = find_viewer(office.connection, member)
    assert visible_accounts(office.connection, viewer) == sees
    assert check_visible(office.connection, viewer, sees) == sees
    for hidden in {"anna", "bert", "system", "foreign", "no such account"} - set(sees):
        with pytest.raises(NotPermitted):
            check_visible(office.connection, viewer, [*sees, hidden])


def test_the_operator_sees_every_account_and_is_told_which_ones_do_not_exist(office: Books) -> None:
    assert visible_accounts(office.connection, None) == ["anna", "bert", "foreign", "system"]
    assert check_visible(office.connection, None, ["bert", "bert", "foreign"]) == ["bert", "foreign"]
    with pytest.raises(UnknownAccount):
        check_visible(office.connection, None, ["nobody"])


def test_a_name_that_two_organisations_have_is_not_guessed(office: Books) -> None:
    with pytest.raises(AmbiguousMember, match="acme/ann, other/ann"):
        find_viewer(office.connection, "ann")
    with pytest.raises(UnknownMember):
        find_viewer(office.connection, "acme/foreign")


def test_old_entries_do_not_hide_behind_new_ones(books: Books) -> None:
    books.open("anna")
    books.grant("anna", 10, now=T0 - 40 * DAY)
    books.spend("anna", 1, "recent", now=T0)
    recent = Period(T0 - timedelta(days=30), T0 + MINUTE)
    assert [row.event_id for row in read(books, "anna", period=recent)] == ["recent"]
