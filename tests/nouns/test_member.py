"""Members of an organisation and the accounts that they may use."""

from __future__ import annotations

import pytest

from jobs import account, member, organisation
from jobs.errors import AlreadyExists, Malformed, UnknownAccount, UnknownOrganisation
from jobs.ledger.database import Connection
from jobs.member import ForeignAccount, MastersOnly
from tests.nouns.conftest import ME


def test_a_master_is_named_no_account(connection: Connection, camp: str) -> None:
    assert member.add(connection, "acme", "ann", "master", [], ME).accounts == ()
    with pytest.raises(Malformed, match="name none"):
        member.add(connection, "acme", "bob", "master", [camp], ME)


def test_the_others_may_use_what_is_named(connection: Connection, camp: str) -> None:
    account.open_account(connection, "camp-2", "acme", "points", ME)
    assert member.add(connection, "acme", "ann", "manager", [camp, "camp-2"], ME).accounts == ("camp", "camp-2")
    with pytest.raises(Malformed, match="--account"):
        member.add(connection, "acme", "bob", "user", [], ME)


def test_more_accounts_are_named_by_adding_again(connection: Connection, camp: str) -> None:
    account.open_account(connection, "camp-2", "acme", "points", ME)
    first = member.add(connection, "acme", "ann", "user", [camp], ME)
    assert member.add(connection, "acme", "ann", "user", [camp], ME) == first
    assert member.add(connection, "acme", "ann", "user", ["camp-2"], ME).accounts == ("camp", "camp-2")


def test_a_role_is_not_changed_by_adding_again(connection: Connection, camp: str) -> None:
    member.add(connection, "acme", "ann", "user", [camp], ME)
    with pytest.raises(AlreadyExists, match="ann is a user"):
        member.add(connection, "acme", "ann", "master", [], ME)


def test_system_accounts_are_for_masters_only(connection: Connection, camp: str) -> None:
    account.open_account(connection, "of-all", "acme", "points", ME, is_system=True)
    with pytest.raises(MastersOnly):
        member.add(connection, "acme", "ann", "manager", ["of-all"], ME)


def test_accounts_of_others_cannot_be_named(connection: Connection, camp: str) -> None:
    organisation.create(connection, "other", "points", None, ME)
    with pytest.raises(ForeignAccount):
        member.add(connection, "other", "eve", "user", [camp], ME)
    assert connection.execute("select count(*) from refill.member").fetchone() == (0,)


def test_what_a_member_needs_must_exist(connection: Connection, camp: str) -> None:
    with pytest.raises(UnknownOrganisation):
        member.add(connection, "nobody", "ann", "master", [], ME)
    with pytest.raises(UnknownAccount):
        member.add(connection, "acme", "ann", "user", ["nothing"], ME)
    with pytest.raises(Malformed):
        member.add(connection, "acme", "", "master", [], ME)
