"""Accounts are opened, shown and closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobs import account, organisation
from jobs.account import BalanceRemaining, ChargeOpen
from jobs.errors import AccountClosed, AlreadyExists, Malformed, UnknownAccount, UnknownOrganisation
from jobs.grant import grant
from jobs.ledger.database import Connection
from jobs.organisation import ProgramNotHeld
from jobs.policy import UnknownTier
from tests.nouns.asking import is_watched, levels
from tests.nouns.conftest import ME


def test_an_account_begins_with_the_levels_of_its_program_or_tier(connection: Connection, camp: str) -> None:
    account.open_account(connection, "run-for-them", "acme", "points", ME, tier="managed")
    assert levels(connection, camp) == (1_000, 500)
    assert levels(connection, "run-for-them") == (10_000, 5_000)


def test_an_account_that_begins_below_its_trigger_is_looked_at(connection: Connection, camp: str) -> None:
    assert is_watched(connection, camp)
    organisation.create(connection, "acme", "mail", None, ME)
    account.open_account(connection, "without-trigger", "acme", "mail", ME)
    assert not is_watched(connection, "without-trigger")


def test_the_same_again_gives_the_same_account(connection: Connection, camp: str) -> None:
    again = account.open_account(connection, camp, "acme", "points", ME)
    assert again == account.find(connection, camp)


@pytest.mark.parametrize("other", [{"email": "ann@example.com"}, {"tier": "managed"}, {"is_system": True}])
def test_a_taken_name_is_refused_for_another_account(
    connection: Connection, camp: str, other: dict[str, object]
) -> None:
    with pytest.raises(AlreadyExists, match="camp exists already"):
        account.open_account(connection, camp, "acme", "points", ME, **other)  # type: ignore[arg-type]


def test_a_name_is_one_account_whoever_asks(connection: Connection, camp: str) -> None:
    organisation.create(connection, "other", "points", None, ME)
    with pytest.raises(AlreadyExists, match="of acme"):
        account.open_account(connection, camp, "other", "points", ME)


def test_an_organisation_has_one_system_account_of_each_program(connection: Connection, camp: str) -> None:
    account.open_account(connection, "of-all", "acme", "points", ME, is_system=True)
    with pytest.raises(AlreadyExists, match="system account"):
        account.open_account(connection, "of-all-2", "acme", "points", ME, is_system=True)
    account.close(connection, "of-all", ME)
    assert account.open_account(connection, "of-all-2", "acme", "points", ME, is_system=True).is_system


def test_what_an_account_needs_must_exist(connection: Connection, camp: str) -> None:
    with pytest.raises(UnknownOrganisation):
        account.open_account(connection, "x", "nobody", "points", ME)
    with pytest.raises(ProgramNotHeld):
        account.open_account(connection, "x", "acme", "mail", ME)
    with pytest.raises(UnknownTier, match="managed, self_service"):
        account.open_account(connection, "x", "acme", "points", ME, tier="gold")
    with pytest.raises(UnknownAccount):
        account.find(connection, "x")


@pytest.mark.parametrize("name", ["", "x" * 65, "tab\there", "trailing ", "\udce9"])
def test_a_name_that_cannot_be_one_is_refused(connection: Connection, camp: str, name: str) -> None:
    with pytest.raises(Malformed, match="the name of an account"):
        account.open_account(connection, name, "acme", "points", ME)


@pytest.mark.parametrize(
    "email",
    ["", "ann", "ann@", "@example.com", "a b@example.com", "ann@example.com\nBcc: all@example.com", "Ann <a@b.c>",
     "ann@-bad.com", "a..b@example.com", "ann@exa_mple.com", "x" * 65 + "@example.com",
     "a@" + "b." * 150 + "com", "\udce9@b.c"],
)  # fmt: skip
def test_an_address_that_mail_servers_would_refuse_is_refused(connection: Connection, camp: str, email: str) -> None:
    with pytest.raises(Malformed, match="is not an e-mail address"):
        account.open_account(connection, "x", "acme", "points", ME, email=email)


@pytest.mark.parametrize("email", ["ann@example.com", "o'neil+refill@mail.example.co.uk", "root@localhost"])
def test_an_address_that_mail_servers_take_is_kept(connection: Connection, camp: str, email: str) -> None:
    assert account.open_account(connection, "x", "acme", "points", ME, email=email).email == email


def test_an_account_is_shown_with_its_living_credit(connection: Connection, camp: str) -> None:
    died = datetime.now(UTC) - timedelta(days=1)
    grant(connection, camp, 300, "dead by now", ME, expires_days=1, now=died - timedelta(days=1))
    grant(connection, camp, 40, "alive", ME, expires_days=10)
    view = account.show(connection, camp)
    assert (view.balance, view.state, view.next_expiry_amount) == (40, "low", 40)
    assert (view.alert_below, view.recharge_below) == (1_000, 500)


def test_an_empty_account_is_closed_for_good(connection: Connection, camp: str) -> None:
    closed = account.close(connection, camp, ME)
    assert closed.closed_at is not None
    assert account.close(connection, camp, ME) == closed
    assert not is_watched(connection, camp)
    with pytest.raises(AccountClosed):
        account.open_account(connection, camp, "acme", "points", ME)


def test_an_account_with_credit_stays_open(connection: Connection, camp: str) -> None:
    grant(connection, camp, 1_200, "a gift", ME)
    with pytest.raises(BalanceRemaining, match="1,200 points"):
        account.close(connection, camp, ME)
    assert account.find(connection, camp).closed_at is None


def test_dead_credit_keeps_no_account_open(connection: Connection, camp: str) -> None:
    grant(connection, camp, 1_200, "dead soon", ME, expires_days=1)
    assert account.close(connection, camp, ME, now=datetime.now(UTC) + timedelta(days=1)).closed_at is not None
    assert connection.execute("select kind::text from refill.entry order by entry_id").fetchall() == [
        ("promotion",),
        ("expiry",),
    ]


def test_an_account_with_an_open_charge_stays_open(connection: Connection, camp: str) -> None:
    connection.execute(
        "with c as (insert into refill.charge"
        " (program_id, organisation_id, reason, fingerprint, payment_method, customer, currency,"
        " net_minor, tax_minor, amount_minor, opened_at, next_check_at)"
        " select program_id, organisation_id, 'recharge', 'fp', 'pm', 'cus', 'USD', 1000, 0, 1000, now(), now()"
        " from refill.account where name = 'camp' returning charge_id)"
        " insert into refill.charge_line (charge_id, line, account_id, credits, net_minor, tax_minor, amount_minor)"
        " select charge_id, 1, account_id, 1000, 1000, 0, 1000 from c, refill.account where name = 'camp'"
    )
    with pytest.raises(ChargeOpen):
        account.close(connection, camp, ME)
