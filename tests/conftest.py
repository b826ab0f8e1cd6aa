"""Real servers for the whole suite: one embedded PostgreSQL and one Redis per test process, started when needed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.databases import database_url, make_database, temporary_database
from tests.support.processes import Processes
from worker.embedded.postgres import Postgres
from worker.embedded.redis import Redis
from worker.embedded.server import running

_TEMPLATE = "refill_template"
_OWN_BASE = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give this run a temporary directory of its own.

    pytest's usual one is shared with every other run of this user, each of which closes it to other users again. As
    root that would cut PostgreSQL, which runs as another user, off its data in the middle of a test.
    """
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.stash[_OWN_BASE] = Path(tempfile.mkdtemp(prefix="refill-tests-"))
        config.option.basetemp = str(config.stash[_OWN_BASE] / "base")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that directory."""
    if _OWN_BASE in config.stash:
        shutil.rmtree(config.stash[_OWN_BASE], ignore_errors=True)


@pytest.fixture(scope="session")
def servers_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this test process keep their data."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def postgres_url(servers_directory: Path) -> Iterator[str]:
    """A real PostgreSQL 18; the URL of its empty maintenance database, as superuser.

    Not synced to the disk: a test's data need not survive a power cut, and kill -9 of the server loses nothing anyway.
    """
    server = Postgres(servers_directory, shared_buffers="64MB", configuration={"fsync": "off"})
    with running(server):
        yield database_url(server.url, "postgres")


@pytest.fixture(scope="session")
def redis_server_url(servers_directory: Path) -> Iterator[str]:
    """A real Redis, shared by the tests of this test process."""
    server = Redis(servers_directory)
    with running(server):
        yield server.url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of the migrated database that ``database`` copies."""
    from jobs.ledger.database import migrate

    migrate(make_database(postgres_url, _TEMPLATE), sandbox=True)
    return _TEMPLATE


@pytest.fixture
def database(postgres_url: str, template_database: str) -> Iterator[str]:
    """The URL of a fresh, migrated database, marked as a sandbox."""
    with temporary_database(postgres_url, template_database) as url:
        yield url


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts real processes; ends them all after the test."""
    group = Processes()
    yield group
    group.close()
