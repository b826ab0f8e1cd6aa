"""Promotional credit that an operator gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from jobs import account, organisation
from jobs.errors import AccountClosed, Conflict, Malformed, UnknownAccount
from jobs.grant import GRANT_MAX, Granted, grant
from jobs.ledger.database import Connection, connect
from jobs.money import AMOUNT_MAX
from tests.nouns.asking import value
from tests.nouns.conftest import ME

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def test_a_grant_is_one_promotional_lot_and_its_entry_names_who_and_why(connection: Connection, camp: str) -> None:
    granted = grant(connection, camp, 500, "welcome", ME)
    assert (granted.amount, granted.balance) == (500, 500)
    assert connection.execute(
        "select l.class::text, l.remaining, l.price_minor, e.kind::text, e.actor, e.memo, e.event_id"
        " from refill.entry e join refill.lot l using (lot_id)"
    ).fetchall() == [("promotional", 500, 0, "promotion", ME, "welcome", granted.request_id)]


def test_credit_dies_as_the_program_says(connection: Connection, camp: str) -> None:
    for program in ("mail", "sms"):
        organisation.create(connection, "acme", program, None, ME)
        account.open_account(connection, f"in-{program}", "acme", program, ME)
    assert grant(connection, "in-mail", 1, "r", ME, now=NOW).expires_at == NOW + timedelta(days=180)
    assert grant(connection, "in-sms", 1, "r", ME, now=NOW).expires_at is None
    # By inactivity it is the account that dies, not the lot: later activity keeps all of it alive.
    assert grant(connection, camp, 1, "r", ME, now=NOW).expires_at is None
    assert value(connection, "select idle_expires_at from refill.account where name = 'camp'") == NOW + timedelta(
        days=365
    )


def test_credit_dies_earlier_where_the_grant_says_so(connection: Connection, camp: str) -> None:
    assert grant(connection, camp, 1, "r", ME, expires_days=30, now=NOW).expires_at == NOW + timedelta(days=30)


def test_the_same_request_again_gives_the_first_result(connection: Connection, camp: str) -> None:
    first = grant(connection, camp, 500, "welcome", ME, expires_days=3, request_id="g-1")
    grant(connection, camp, 7, "another", ME)
    assert grant(connection, camp, 500, "welcome", ME, expires_days=3, request_id="g-1") == first
    assert account.show(connection, camp).balance == 507


@pytest.mark.parametrize("other", [{"amount": 501}, {"reason": "other"}, {"expires_days": 4}, {"account": "camp-2"}])
def test_the_same_request_id_with_other_content_is_a_conflict(
    connection: Connection, camp: str, other: dict[str, object]
) -> None:
    account.open_account(connection, "camp-2", "acme", "points", ME)
    content: dict[str, object] = {"account": camp, "amount": 500, "reason": "welcome", "expires_days": 3}
    grant(connection, actor=ME, request_id="g-1", **content)  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        grant(connection, actor=ME, request_id="g-1", **(content | other))  # type: ignore[arg-type]
    assert value(connection, "select sum(balance) from refill.account") == 500


def test_two_that_ask_at_once_get_one_grant(connection: Connection, camp: str, ledger_url: str) -> None:
    def ask(_: int) -> Granted:
        with connect(ledger_url, application="test") as own:
            return grant(own, camp, 500, "welcome", ME, request_id="g-1")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert account.show(connection, camp).balance == 500


@pytest.mark.parametrize("amount", [0, -1, GRANT_MAX + 1])
def test_an_amount_out_of_bounds_is_refused(connection: Connection, camp: str, amount: int) -> None:
    with pytest.raises(Malformed, match="a grant must be"):
        grant(connection, camp, amount, "r", ME)


def test_a_balance_stays_within_what_can_be_kept(connection: Connection, camp: str) -> None:
    connection.execute("update refill.account set balance = %s where name = 'camp'", (AMOUNT_MAX - 5,))
    with pytest.raises(Malformed, match="more than can be kept"):
        grant(connection, camp, 6, "r", ME)


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_days_out_of_bounds_are_refused(connection: Connection, camp: str, days: int) -> None:
    with pytest.raises(Malformed, match="must expire in"):
        grant(connection, camp, 1, "r", ME, expires_days=days)


@pytest.mark.parametrize("reason", ["", "x" * 501, "line\nline", "\udce9"])
def test_a_reason_must_be_readable(connection: Connection, camp: str, reason: str) -> None:
    with pytest.raises(Malformed, match="a reason"):
        grant(connection, camp, 1, reason, ME)


@pytest.mark.parametrize("request_id", ["", "x" * 65, "\udce9"])
def test_a_request_id_must_be_one(connection: Connection, camp: str, request_id: str) -> None:
    with pytest.raises(Malformed, match="a request id"):
        grant(connection, camp, 1, "r", ME, request_id=request_id)


def test_only_an_open_account_is_given_anything(connection: Connection, camp: str) -> None:
    with pytest.raises(UnknownAccount):
        grant(connection, "nothing", 1, "r", ME)
    account.close(connection, camp, ME)
    with pytest.raises(AccountClosed):
        grant(connection, camp, 1, "r", ME)
