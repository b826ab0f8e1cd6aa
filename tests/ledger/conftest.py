"""A fresh ledger for each test, proved right after it unless the test breaks it on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.ledger.database import Connection, connect
from tests.ledger.books import Books


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with connect(database, application="test") as connection:
        yield connection


@pytest.fixture
def broken_books(connection: Connection) -> Books:
    """A ledger that the test may break."""
    return Books(connection)


@pytest.fixture
def books(connection: Connection) -> Iterator[Books]:
    """A ledger that must be right at the end of the test, whatever happened in it."""
    books = Books(connection)
    yield books
    assert books.audit() == []
