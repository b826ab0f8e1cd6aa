"""A sandbox of its own for each test, and one that tests share which only add to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from tests.support.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A fresh sandbox process."""
    yield from _running(tmp_path / "sandbox.db")


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox process for tests that ask for no faults and do not count what others did."""
    yield from _running(tmp_path_factory.mktemp("sandbox") / "sandbox.db")


@pytest.fixture
def client(sandbox: Sandbox) -> stripe.StripeClient:
    """The official SDK on the fresh sandbox."""
    return sandbox.client()


@pytest.fixture(scope="session")
def shared_client(shared_sandbox: Sandbox) -> stripe.StripeClient:
    """The official SDK on the shared sandbox."""
    return shared_sandbox.client()


def _running(data: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(data)
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()
