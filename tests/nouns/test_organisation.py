"""Organisations and how they hold credit."""

from __future__ import annotations

import pytest

from jobs import organisation
from jobs.errors import Conflict, Malformed, UnknownOrganisation
from jobs.ledger.database import Connection
from jobs.organisation import ProgramNotHeld
from tests.nouns.asking import value
from tests.nouns.conftest import ME


def test_the_program_says_how_balances_are_held_where_nobody_else_does(connection: Connection) -> None:
    assert organisation.create(connection, "acme", "points", None, ME).sharing == "shared"
    assert organisation.create(connection, "acme", "sms", None, ME).sharing == "individual"
    assert value(connection, "select count(*) from refill.organisation") == 1


def test_the_same_again_gives_the_same_result(connection: Connection) -> None:
    first = organisation.create(connection, "acme", "points", "individual", ME)
    assert organisation.create(connection, "acme", "points", "individual", ME) == first
    assert organisation.create(connection, "acme", "points", None, ME) == first


def test_balances_are_not_switched_by_creating_again(connection: Connection) -> None:
    organisation.create(connection, "acme", "points", "individual", ME)
    with pytest.raises(Conflict, match="individual balances already"):
        organisation.create(connection, "acme", "points", "shared", ME)


def test_an_organisation_is_found_by_the_program_that_it_holds(connection: Connection) -> None:
    organisation.create(connection, "acme", "points", None, ME)
    with pytest.raises(ProgramNotHeld, match="--program mail"):
        organisation.find(connection, "acme", "mail")
    with pytest.raises(UnknownOrganisation):
        organisation.find(connection, "acne", "points")


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines", " blank", "nul\0", "\udce9"])
def test_a_name_that_cannot_be_one_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(Malformed):
        organisation.create(connection, name, "points", None, ME)
    assert value(connection, "select count(*) from refill.organisation") == 0
