"""What an embedded server is to whoever runs it: the supervisor, or a test on its own."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from jobs.errors import RefillError
from worker.process import Command, end_group, has_exited, spawn

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.01
_LOG_BYTES_MAX = 10_000_000


class ServerFailed(RefillError):
    """An embedded server did not start."""

    code = "server_failed"


class Server(Protocol):
    """A server that can be started, many times, on one directory and one port.

    The port is chosen when the object is made and stays, so that clients find a restarted server where it was.
    """

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...

    def prepare(self) -> None:
        """Everything before the process: end what an earlier run left, make the directory, write the configuration.

        Raises ``RefillError``.
        """

    def command(self) -> Command:
        """The process in the foreground."""

    def is_ready(self) -> bool:
        """Whether it answers now. Quick; never raises for a server that is not there yet."""


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, from ready to stopped, without a supervisor.

    Raises ``ServerFailed`` where it ends or stays silent.
    """
    server.prepare()
    command = server.command()
    process = spawn(command)
    try:
        _wait_until_ready(server, process)
        yield server
    finally:
        stop(process, command, _STOP_TIMEOUT_S)


def stop(process: subprocess.Popen[bytes], command: Command, timeout_s: float) -> None:
    """Ask the process to end in order, force it after ``timeout_s`` seconds, and return when it is gone."""
    if process.returncode is None:
        process.send_signal(command.stop_signal)
    deadline = time.monotonic() + timeout_s
    while not has_exited(process):
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    end_group(process)


def failure(server_name: str, log: Path | None) -> ServerFailed:
    """The error for a server that ended while it was starting, with its own last words."""
    if log is None or not log.exists():
        return ServerFailed(f"the embedded {server_name} did not start; what it printed says why")
    return ServerFailed(f"the embedded {server_name} did not start; the end of {log} says:\n{_last_lines(log)}")


def keep_secret(path: Path) -> str:
    """The password kept in ``path``, made at the first call; the file is readable to its owner only."""
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(24))
        draft.rename(path)
    return path.read_text()


def rotate(log: Path) -> None:
    """Set a log aside, replacing the one before, once it has grown past ten megabytes."""
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.rename(log.with_suffix(".log.1"))


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.is_ready():
        if has_exited(process) or time.monotonic() > deadline:
            raise failure(server.name, server.command().log)
        time.sleep(_POLL_S)


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-12:])
