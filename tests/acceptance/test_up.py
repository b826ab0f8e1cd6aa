"""`refill up`: one command runs everything, keeps it running, and leaves nothing behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from dotenv import dotenv_values

from tests.support.processes import ROOT, Processes, Running, clean_environment
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance

_PROCFILE = """\
intake: sleep 1001
scheduler: sleep 1002
worker: sleep 1003
"""
_FOREIGN = {
    "DATABASE_URL": "postgresql://somebody@127.0.0.1:1/elsewhere",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "STRIPE_API_KEY": "sk_test_of_somebody",
    "STRIPE_API_BASE": "http://127.0.0.1:1",
    "SMTP_URL": "smtp://127.0.0.1:1",
}

StartUp = Callable[..., Running]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def start_up(processes: Processes, tmp_path: Path) -> StartUp:
    """Starts `refill up` on a Procfile; ``environment`` has what is given from outside."""

    def start(
        data: Path,
        procfile: str = _PROCFILE,
        environment: dict[str, str] | None = None,
        stop_timeout_s: float = 20.0,
        user: int | None = None,
    ) -> Running:
        file = (tmp_path if user is None else data.parent) / "Procfile"
        file.write_text(procfile)
        command = [sys.executable, "-m", "tests.support.run_up", str(data), str(file), str(stop_timeout_s)]
        return processes.start(command, clean_environment(**(environment or {})), directory=ROOT, user=user)

    return start


def _pids(up: Running) -> dict[str, int]:
    return {event["name"]: event["pid"] for event in up.events() if event["event"] == "process.started"}


def _environment(data: Path) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(data / "refill.env").items()}


def _all_gone(pids: dict[str, int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids.values())


def test_everything_starts_and_says_where_it_is(start_up: StartUp, data: Path) -> None:
    up = start_up(data)
    ready = up.wait_for_event("up.ready")

    assert set(_pids(up)) == {"postgres", "redis", "sandbox", "intake", "scheduler", "worker"}
    assert ready["environment"] == str(data / "refill.env")
    found = _environment(data)
    assert list(found) == [
        "DATABASE_URL",
        "REDIS_URL",
        "STRIPE_API_BASE",
        "STRIPE_API_KEY",
        "MAIL_DIR",
        "REFILL_DATA",
    ]
    with psycopg.connect(found["DATABASE_URL"]) as connection:
        assert connection.execute("select current_database()").fetchone() == ("refill",)
    with redis.Redis.from_url(found["REDIS_URL"]) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_refill_env_is_for_its_owner_and_goes_with_the_run(start_up: StartUp, data: Path) -> None:
    up = start_up(data, environment=_FOREIGN)
    up.wait_for_event("up.ready")
    assert stat.S_IMODE((data / "refill.env").stat().st_mode) == 0o600

    assert up.stop() == 0
    assert not (data / "refill.env").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_order_and_leaves_nothing(
    start_up: StartUp, data: Path, number: signal.Signals
) -> None:
    up = start_up(data)
    up.wait_for_event("up.ready")
    pids = _pids(up)

    up.signal(number)

    assert up.wait() == 0
    stopped = [event["name"] for event in up.events("process.stopped")]
    assert stopped == ["intake", "scheduler", "worker", "sandbox", "redis", "postgres"]
    assert up.events("process.forced") == []
    assert _all_gone(pids)


def test_what_a_process_started_is_gone_too(start_up: StartUp, data: Path, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    up = start_up(data, f"worker: sh -c 'sleep 1004 & echo $! > {note}; exec sleep 1005'\n", _FOREIGN)
    up.wait_for_event("up.ready")
    grandchild = int(eventually(lambda: note.exists() and note.read_text().strip()))

    assert up.stop() == 0
    assert eventually(lambda: not psutil.pid_exists(grandchild))


def test_a_process_that_dies_is_started_again(start_up: StartUp, data: Path) -> None:
    up = start_up(data, environment=_FOREIGN)
    up.wait_for_event("up.ready")
    os.kill(_pids(up)["intake"], signal.SIGKILL)

    exited = up.wait_for_event("process.exited", name="intake")
    assert (exited["status"], exited["restart_in_s"]) == ("SIGKILL", 0.5)
    restarted = up.wait_for_event("process.restarted", name="intake")
    assert psutil.Process(restarted["pid"]).cmdline() == ["sleep", "1001"]


def test_a_process_that_dies_at_once_is_started_ever_more_slowly(start_up: StartUp, data: Path) -> None:
    up = start_up(data, "worker: false\n", _FOREIGN)

    def third() -> bool:
        return len(up.events("process.exited")) >= 3

    assert eventually(third)
    assert [event["restart_in_s"] for event in up.events("process.exited")[:3]] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_server_that_is_killed_comes_back_at_its_address_with_its_data(
    start_up: StartUp, data: Path, server: str
) -> None:
    up = start_up(data)
    up.wait_for_event("up.ready")
    found = _environment(data)
    with psycopg.connect(found["DATABASE_URL"]) as connection:
        connection.execute("create table kept as select 1 as n")
    with redis.Redis.from_url(found["REDIS_URL"]) as client:
        client.xadd("kept", {"n": "1"})
        client.execute_command("WAIT", 0, 0)

    os.kill(_pids(up)[server], signal.SIGKILL)
    up.wait_for_event("process.restarted", name=server)

    def has_its_data() -> bool:
        try:
            with psycopg.connect(found["DATABASE_URL"]) as connection:
                in_postgres = connection.execute("select n from kept").fetchone()
            with redis.Redis.from_url(found["REDIS_URL"]) as client:
                return in_postgres == (1,) and client.xlen("kept") == 1
        except (psycopg.OperationalError, redis.RedisError):
            return False

    assert eventually(has_its_data, timeout=30)


def test_a_killed_supervisor_takes_its_children_along_and_the_next_one_finds_the_data(
    start_up: StartUp, data: Path
) -> None:
    first = start_up(data)
    first.wait_for_event("up.ready")
    with psycopg.connect(_environment(data)["DATABASE_URL"]) as connection:
        connection.execute("create table kept as select 1 as n")
    pids = _pids(first)

    first.kill()

    if sys.platform.startswith("linux"):
        assert eventually(lambda: _all_gone(pids))
    second = start_up(data)
    second.wait_for_event("up.ready")
    assert _all_gone(pids)
    with psycopg.connect(_environment(data)["DATABASE_URL"]) as connection:
        assert connection.execute("select n from kept").fetchone() == (1,)


def test_a_second_one_on_the_same_directory_is_refused(start_up: StartUp, data: Path) -> None:
    first = start_up(data, environment=_FOREIGN)
    first.wait_for_event("up.ready")

    second = start_up(data, environment=_FOREIGN)

    assert second.wait() == 1
    (refusal,) = second.events("command.failed")
    assert refusal["code"] == "already_running"
    assert str(first.pid) in refusal["error"]
    assert (data / "refill.env").exists()


def test_two_beside_each_other_do_not_collide(start_up: StartUp, tmp_path: Path) -> None:
    directories = [tmp_path / "one", tmp_path / "two"]
    runs = [start_up(directory) for directory in directories]
    for run in runs:
        run.wait_for_event("up.ready")
    one, two = (_environment(directory) for directory in directories)
    assert one["STRIPE_API_BASE"] != two["STRIPE_API_BASE"]

    with psycopg.connect(one["DATABASE_URL"]) as connection:
        connection.execute("create table only_in_one ()")
    with psycopg.connect(two["DATABASE_URL"]) as connection:
        assert connection.execute("select to_regclass('only_in_one')").fetchone() == (None,)
    assert [run.stop() for run in runs] == [0, 0]


@pytest.mark.parametrize("setting", ["REFILL_POSTGRES_PORT", "REFILL_REDIS_PORT", "REFILL_SANDBOX_PORT"])
def test_a_taken_port_stops_the_start_and_leaves_nothing(start_up: StartUp, data: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        up = start_up(data, environment={setting: port})
        assert up.wait() == 2

    (failed,) = up.events("command.failed")
    assert failed["code"] == "port_in_use"
    assert f"{setting} is {port}" in failed["error"]
    assert up.events("process.started") == []
    assert not (data / "refill.env").exists()


def test_what_is_given_is_used_and_nothing_is_embedded(start_up: StartUp, data: Path) -> None:
    up = start_up(data, environment=_FOREIGN)
    up.wait_for_event("up.ready")

    assert set(_pids(up)) == {"intake", "scheduler", "worker"}
    assert _environment(data) == {**_FOREIGN, "REFILL_DATA": str(data)}


def test_a_real_key_goes_to_the_real_processor(start_up: StartUp, data: Path) -> None:
    given = {name: value for name, value in _FOREIGN.items() if name != "STRIPE_API_BASE"}
    up = start_up(data, environment=given)
    up.wait_for_event("up.ready")

    assert _environment(data)["STRIPE_API_BASE"] == "https://api.stripe.com"
    assert "sandbox" not in _pids(up)


def test_a_release_that_fails_ends_it_with_the_same_status(start_up: StartUp, data: Path) -> None:
    up = start_up(data, "release: sh -c 'echo the reason; exit 7'\nworker: sleep 1006\n", _FOREIGN)

    assert up.wait() == 7
    assert "the reason" in [event["line"] for event in up.events("process.printed")]
    assert set(_pids(up)) == {"release"}


def test_a_process_that_does_not_listen_is_forced(start_up: StartUp, data: Path) -> None:
    deaf = "worker: sh -c 'trap \"\" TERM; echo deaf; while :; do sleep 1; done'\n"
    up = start_up(data, deaf, _FOREIGN, stop_timeout_s=0.5)
    up.wait_for_event("process.printed", line="deaf")
    pids = _pids(up)

    assert up.stop() == 0
    assert [event["name"] for event in up.events("process.forced")] == ["worker"]
    assert _all_gone(pids)


def test_a_second_interrupt_does_not_wait(start_up: StartUp, data: Path) -> None:
    deaf = "worker: sh -c 'trap \"\" TERM; echo deaf; while :; do sleep 1; done'\n"
    up = start_up(data, deaf, _FOREIGN, stop_timeout_s=600)
    up.wait_for_event("process.printed", line="deaf")

    up.signal(signal.SIGINT)
    up.wait_for_event("up.stopping")
    up.signal(signal.SIGINT)

    assert up.wait(timeout=20) == 0


def test_a_signal_during_the_start_stops_it(start_up: StartUp, data: Path) -> None:
    up = start_up(data, "release: sleep 1007\nworker: sleep 1008\n", _FOREIGN)
    up.wait_for_event("process.started", name="release")

    assert up.stop() == 0
    assert up.events("up.ready") == []


def test_every_line_is_json_whatever_a_process_prints(start_up: StartUp, data: Path, tmp_path: Path) -> None:
    (tmp_path / "says").write_bytes(b"\377 no utf-8\n" + b'{"event":"own"}\n' + b"no line end")
    up = start_up(data, f"worker: sh -c 'cat {tmp_path}/says; sleep 1009'\n", _FOREIGN)

    assert up.wait_for_event("own") == {"event": "own"}
    assert up.wait_for_event("process.printed", process="worker")["line"] == "\ufffd no utf-8"
    assert all(line.startswith("{") for line in up.lines)


def _may_run_refill(user: int) -> bool:
    command = [sys.executable, "-c", "import worker.up"]
    try:
        return subprocess.run(command, cwd=ROOT, user=user, group=user, extra_groups=[]).returncode == 0
    except PermissionError:
        return False


@pytest.fixture
def unprivileged() -> Iterator[tuple[int, Path]]:
    """A user who is not root, and a directory of theirs."""
    user = pwd.getpwnam("nobody").pw_uid
    home = Path(tempfile.mkdtemp(prefix="refill-unprivileged-"))
    os.chown(home, user, user)
    yield user, home
    shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else; as somebody else all tests show it")
def test_it_needs_no_root(processes: Processes, unprivileged: tuple[int, Path], start_up: StartUp) -> None:
    user, home = unprivileged
    if not _may_run_refill(user):
        pytest.skip("this checkout or its Python is closed to other users")
    up = start_up(home / "data", user=user)
    up.wait_for_event("up.ready")

    assert {psutil.Process(pid).uids().real for pid in _pids(up).values()} == {user}
    assert up.events("directory.opened") == []
    assert up.stop() == 0
