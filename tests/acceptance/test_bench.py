"""A benchmark proves what it measured: here with few events, and with books that are wrong."""

from __future__ import annotations

import pytest

from jobs.ledger.database import connect
from tests.bench.backlog import Backlog, Event
from tests.bench.drain import drains
from tests.bench.figures import Target
from tests.bench.ground import fill, ground
from tests.bench.grown import PAST, DiskTooSmall, check_room, grow
from tests.bench.truth import Witness, credits_held, outcomes, prove
from tests.ledger.books import Books
from tests.support.processes import ROOT

ACCOUNTS = 20
EVENTS = [Event(f"event-{number}", f"account-{number % ACCOUNTS + 1}", number) for number in range(1, 201)]
FULL = ACCOUNTS * 2 * 1_000_000


@pytest.mark.acceptance
def test_a_drain_is_measured_and_proved() -> None:
    with ground(ACCOUNTS) as place:
        found = drains(place, Backlog(place.redis_url, EVENTS), 1, (Target(">=", 1),), runs=1)
    assert (found.name, found.unit, len(found.runs), found.is_reached) == ("drain, 1 intake", "/s", 1, True)
    assert "Postgres" in found.bound


def watched(url: str) -> Witness:
    """A witness of half of the accounts, and books in which all events are posted."""
    fill(url, ACCOUNTS)
    witness = Witness(url, [f"account-{number}" for number in range(1, 11)])
    with connect(url) as connection:
        books = Books(connection)
        for event in EVENTS:
            books.spend(event.account, event.amount, event.event_id, now=None)
            witness.saw(*event)
    return witness


def test_a_witness_agrees_with_right_books(database: str) -> None:
    watched(database).testify(in_order=True)
    spent = sum(event.amount for event in EVENTS)
    assert outcomes(database) == {"accepted": (len(EVENTS), spent)}
    prove(database, FULL - spent)


def test_a_witness_misses_an_event_that_was_sent(database: str) -> None:
    witness = watched(database)
    witness.saw("lost", "account-3", 5)
    with pytest.raises(AssertionError, match="account-3"):
        witness.testify(in_order=False)


def test_a_witness_minds_the_order_only_where_it_was_promised(database: str) -> None:
    witness = watched(database)
    with connect(database) as connection:
        books = Books(connection)
        for event_id in ("second", "first"):
            books.spend("account-3", 5, event_id, now=None)
    witness.saw("first", "account-3", 5)
    witness.saw("second", "account-3", 5)
    witness.testify(in_order=False)
    with pytest.raises(AssertionError, match="account-3"):
        witness.testify(in_order=True)


def test_a_witness_sees_a_lot_that_has_more_left_than_it_should(database: str) -> None:
    witness = watched(database)
    with connect(database) as connection:
        connection.execute(
            "update refill.lot set remaining = remaining + 1 where lot_id = (select min(lot_id) from refill.lot)"
        )
    with pytest.raises(AssertionError):
        witness.testify_to_what_was_booked()


def test_credits_that_are_missing_are_noticed(database: str) -> None:
    fill(database, ACCOUNTS)
    with pytest.raises(AssertionError, match="hold 40000000 credits, not 39999999"):
        prove(database, FULL - 1)


def test_a_grown_ledger_is_right_and_large(database: str) -> None:
    fill(database, ACCOUNTS, granted_ago=PAST)
    spent = grow(database, 1_000)
    assert outcomes(database) == {"accepted": (1_000, spent)}
    prove(database, FULL - spent)
    assert credits_held(database) == FULL - spent


def test_a_disk_that_is_too_small_is_named_before_anything_is_written() -> None:
    with pytest.raises(DiskTooSmall, match="are free"):
        check_room(10**12, ROOT)
