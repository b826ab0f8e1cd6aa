"""Programs in the database."""

from __future__ import annotations

import pytest

from jobs import account, organisation, policy_store, program_store
from jobs.errors import UnknownProgram
from jobs.grant import grant
from jobs.ledger.database import Connection
from jobs.policy import PolicySettings
from jobs.program import Expiry, PolicyDefaults, Program, example_programs
from jobs.program_store import ProgramInUse
from tests.nouns.asking import is_watched, levels, value
from tests.nouns.conftest import ME


def points() -> Program:
    return next(program for program in example_programs() if program.name == "points")


def points_with(**changes: object) -> Program:
    return points().model_copy(update=changes)


def test_a_program_that_is_loaded_is_found_as_it_was(connection: Connection) -> None:
    assert program_store.find(connection, "points").program == points()
    assert [stored.program.name for stored in program_store.list_programs(connection)] == ["mail", "points", "sms"]


def test_a_name_that_no_program_has_is_refused(connection: Connection) -> None:
    with pytest.raises(UnknownProgram, match="'pionts'"):
        program_store.find(connection, "pionts")


def test_loading_says_whether_anything_changed(connection: Connection) -> None:
    assert program_store.load(connection, points_with(name="gold"), ME) == "loaded"
    assert program_store.load(connection, points_with(name="gold"), ME) == "unchanged"
    assert program_store.load(connection, points_with(name="gold", title="Gold"), ME) == "updated"
    assert program_store.find(connection, "gold").program.title == "Gold"


def test_the_columns_that_postings_read_follow_the_terms(connection: Connection) -> None:
    program_store.load(connection, points_with(expiry=Expiry(kind="fixed", days=30), time_zone="UTC"), ME)
    assert value(
        connection, "select (expiry_kind, expiry_days, time_zone) from refill.program where name = 'points'"
    ) == ("fixed", "30", "UTC")


@pytest.mark.parametrize(
    "change",
    [{"decimals": 2}, {"currency": "EUR"}, {"expiry": Expiry(kind="none")}],
    ids=["decimals", "currency", "expiry"],
)
def test_what_credit_means_cannot_change_once_there_is_some(
    connection: Connection, camp: str, change: dict[str, object]
) -> None:
    assert program_store.load(connection, points_with(**change), ME) == "updated"
    assert program_store.load(connection, points(), ME) == "updated"
    grant(connection, camp, 10, "a gift", ME)
    with pytest.raises(ProgramInUse):
        program_store.load(connection, points_with(**change), ME)
    assert program_store.find(connection, "points").program == points()
    assert program_store.load(connection, points_with(title="New name"), ME) == "updated"


def test_a_tier_that_accounts_are_on_must_stay(connection: Connection, camp: str) -> None:
    account.open_account(connection, "run-for-them", "acme", "points", ME, tier="managed")
    tiers = {name: tier for name, tier in points().tiers.items() if name != "managed"}
    with pytest.raises(ProgramInUse, match="managed"):
        program_store.load(connection, points_with(tiers=tiers), ME)


def test_changed_levels_reach_every_account_that_does_not_set_its_own(connection: Connection, camp: str) -> None:
    for name in ("own-alert", "in-tier"):
        account.open_account(connection, name, "acme", "points", ME, tier="managed" if name == "in-tier" else None)
    policy_store.set_policy(connection, "own-alert", PolicySettings(alert_below=7), ME)
    program_store.load(
        connection, points_with(policy=PolicyDefaults(alert_below=300, recharge_below=200, amount=1_000)), ME
    )
    assert levels(connection, camp) == (300, 200)
    assert levels(connection, "own-alert") == (7, 200)
    assert levels(connection, "in-tier") == (10_000, 5_000)


def test_an_account_that_changed_levels_put_below_its_trigger_is_looked_at(connection: Connection, camp: str) -> None:
    grant(connection, camp, 600, "a gift", ME)
    connection.execute("delete from refill.watch")
    program_store.load(
        connection, points_with(policy=PolicyDefaults(alert_below=1_000, recharge_below=700, amount=1_000)), ME
    )
    assert is_watched(connection, camp)


def test_a_closed_account_keeps_its_levels(connection: Connection, camp: str) -> None:
    account.close(connection, camp, ME)
    program_store.load(connection, points_with(policy=PolicyDefaults(alert_below=300)), ME)
    assert levels(connection, camp) == (1_000, 500)


def test_an_organisation_of_a_program_that_is_not_loaded_is_refused(connection: Connection) -> None:
    with pytest.raises(UnknownProgram):
        organisation.create(connection, "acme", "gold", None, ME)
