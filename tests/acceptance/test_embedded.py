"""The embedded servers: nobody enters without the password, data survives, leftovers of an earlier run do no harm."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest
import redis

from jobs.errors import PortInUse
from tests.support.waiting import eventually
from worker.embedded.postgres import Postgres
from worker.embedded.redis import Redis
from worker.embedded.server import running
from worker.process import spawn

pytestmark = pytest.mark.acceptance


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{parts.hostname}:{parts.port}"))


def _server_id(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_postgres_is_durable_and_as_configured(tmp_path: Path) -> None:
    with running(Postgres(tmp_path, shared_buffers="32MB")) as server, psycopg.connect(server.url) as connection:
        asked = [
            "fsync",
            "synchronous_commit",
            "shared_buffers",
            "data_checksums",
            "TimeZone",
            "jit",
            "listen_addresses",
        ]
        found = [connection.execute("select current_setting(%s)", [name]).fetchone() for name in asked]
    assert found == [("on",), ("on",), ("32MB",), ("on",), ("UTC",), ("off",), ("127.0.0.1",)]


def test_postgres_refuses_whoever_has_no_password(tmp_path: Path) -> None:
    with running(Postgres(tmp_path)) as server, pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(_without_password(server.url))


def test_redis_refuses_whoever_has_no_password(tmp_path: Path) -> None:
    with (
        running(Redis(tmp_path)) as server,
        redis.Redis.from_url(_without_password(server.url)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


@pytest.mark.parametrize("name", ["postgres.password", "redis.password", "redis.conf"])
def test_secrets_are_readable_to_their_owner_only(tmp_path: Path, name: str) -> None:
    with running(Postgres(tmp_path)), running(Redis(tmp_path)):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_data_survives_a_stop_and_a_start(tmp_path: Path) -> None:
    with running(Postgres(tmp_path)) as server, psycopg.connect(server.url) as connection:
        connection.execute("create table kept as select 1 as n")
    with running(Redis(tmp_path)) as server, redis.Redis.from_url(server.url) as client:
        client.xadd("kept", {"n": "1"})

    with running(Postgres(tmp_path)) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("select n from kept").fetchone() == (1,)
    with running(Redis(tmp_path)) as server, redis.Redis.from_url(server.url) as client:
        assert client.xlen("kept") == 1


def test_committed_data_survives_kill_9(tmp_path: Path) -> None:
    with running(Postgres(tmp_path)) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept as select 1 as n")
        os.kill(_server_id(tmp_path), signal.SIGKILL)

    with running(Postgres(tmp_path)) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("select n from kept").fetchone() == (1,)


def test_a_server_left_by_a_killed_run_is_ended_first(tmp_path: Path) -> None:
    first = Postgres(tmp_path)
    first.prepare()
    left = spawn(first.command())
    try:
        eventually(first.is_ready)
        with running(Postgres(tmp_path)) as second:
            assert second.is_ready()
            assert left.poll() is not None
    finally:
        left.kill()
        left.wait()


def test_a_pid_file_that_names_a_foreign_process_is_not_believed(tmp_path: Path) -> None:
    with running(Postgres(tmp_path)):
        pid_file = (tmp_path / "postgres" / "postmaster.pid").read_text()
    (tmp_path / "postgres" / "postmaster.pid").write_text(
        pid_file.replace(pid_file.split("\n")[0], str(os.getpid()), 1)
    )

    with running(Postgres(tmp_path)) as server:
        assert server.is_ready()
    assert psutil.pid_exists(os.getpid())


def test_a_taken_port_is_said_with_its_setting(tmp_path: Path) -> None:
    with running(Redis(tmp_path)) as server, pytest.raises(PortInUse, match=str(server.port)) as refusal:
        Postgres(tmp_path, port=server.port)
    assert "REFILL_POSTGRES_PORT" in str(refusal.value)
    assert (refusal.value.code, refusal.value.exit_status) == ("port_in_use", 2)


def test_a_deep_and_awkward_path_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a rather long name with a 'quote' and ü"] * 4)
    deep.mkdir(parents=True)
    with running(Postgres(deep)) as postgres, running(Redis(deep)) as other:
        assert postgres.is_ready()
        assert other.is_ready()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_as_root_a_closed_directory_is_opened_to_pass_but_not_to_read(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with running(Postgres(closed)) as server:
        assert psutil.Process(_server_id(closed)).uids().real != 0
        assert server.is_ready()
    mode = stat.S_IMODE(closed.stat().st_mode)
    assert mode & (stat.S_IROTH | stat.S_IRGRP | stat.S_IWOTH | stat.S_IWGRP) == 0
