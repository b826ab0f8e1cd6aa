"""A ledger for each test, proved right after it unless the test breaks it on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.ledger.database import Connection, connect
from tests.ledger.books import SET_MIN, Books, empty
from tests.support.databases import temporary_database


@pytest.fixture(scope="session")
def shared_database(postgres_url: str, template_database: str) -> Iterator[str]:
    """The URL of a migrated database for all tests of this process that leave its schema alone."""
    with temporary_database(postgres_url, template_database) as url:
        yield url


@pytest.fixture
def ledger_url(shared_database: str) -> str:
    """The URL of an empty ledger."""
    with connect(shared_database, application="test") as connection:
        empty(connection)
    return shared_database


@pytest.fixture
def connection(ledger_url: str) -> Iterator[Connection]:
    """A connection to an empty ledger."""
    with connect(ledger_url, application="test") as connection:
        yield connection


@pytest.fixture
def books(connection: Connection, request: pytest.FixtureRequest) -> Iterator[Books]:
    """A ledger that must be right at the end of the test, whatever happened in it.

    A module that is about posting is marked with `both_ways`: each of its tests then runs with either.
    """
    books = Books(connection, getattr(request, "param", SET_MIN))
    yield books
    assert books.audit() == []


@pytest.fixture
def broken_books(database: str) -> Iterator[Books]:
    """A ledger in a database of its own, that the test may break."""
    with connect(database, application="test") as connection:
        yield Books(connection)
