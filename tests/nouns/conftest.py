"""An empty ledger with the example programs and one organisation, and a sandbox processor for cards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import account, organisation, program_store
from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import Connection, connect
from jobs.program import example_programs
from tests.ledger.conftest import ledger_url, shared_database
from tests.support.sandbox import Sandbox

__all__ = ["ledger_url", "shared_database"]

ME = "operator:tester"


@pytest.fixture
def connection(ledger_url: str) -> Iterator[Connection]:
    """A ledger with the example programs."""
    with connect(ledger_url, application="test") as connection:
        for program in example_programs():
            program_store.load(connection, program, ME)
        yield connection


@pytest.fixture
def camp(connection: Connection) -> str:
    """The account `camp` of the organisation `acme`, in points."""
    organisation.create(connection, "acme", "points", None, ME)
    return account.open_account(connection, "camp", "acme", "points", ME).name


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StripeGateway]:
    """The real client on a sandbox processor that the tests share."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox") / Path("sandbox.db"))
    sandbox.start()
    try:
        yield StripeGateway(sandbox.key, sandbox.url, 10.0)
    finally:
        sandbox.stop()
