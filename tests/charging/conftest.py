"""A ledger with accounts that recharge, and a sandbox processor to charge at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import connect
from tests.charging.world import World
from tests.support.sandbox import Sandbox
from tests.support.seed import load_examples


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A fresh sandbox process."""
    sandbox = Sandbox(tmp_path / "sandbox.db")
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()


@pytest.fixture
def world(database: str, sandbox: Sandbox) -> Iterator[World]:
    """An empty ledger with the example programs, next to the sandbox."""
    with connect(database) as connection:
        load_examples(connection)
        yield World(connection, StripeGateway(sandbox.key, sandbox.url, 5.0), sandbox, database)


@pytest.fixture(scope="session")
def running_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox process for many tests."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox") / "sandbox.db")
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()


@pytest.fixture
def shared_sandbox(running_sandbox: Sandbox) -> Iterator[Sandbox]:
    """That process, for tests that neither kill it nor move its clock nor count what others did; without faults."""
    yield running_sandbox
    running_sandbox.control("DELETE", "faults")
    running_sandbox.control("POST", "settings")
