"""A command, and how it becomes a child that never outlives its parent.

Every child leads a process group of its own, so that a Ctrl-C at the terminal reaches the supervisor alone and the
supervisor decides the order; and on Linux the kernel signals it when the parent dies, however the parent dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class User:
    """The system user that a command runs as; numbers, because a name need not exist for both."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, as whom and where, and how to end it.

    ``stop_signal`` asks it to end in order; the kernel sends it too when the parent dies. ``force_signal`` ends it
    where there is no patience left. ``log`` takes its output; without one the caller reads it from a pipe.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    directory: Path | None = None
    user: User | None = None
    log: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    force_signal: signal.Signals = signal.SIGKILL


def spawn(command: Command) -> subprocess.Popen[bytes]:
    """Start the command. Call it from the main thread: the kernel ties a child's fate to the thread that made it.

    Raises ``OSError`` where the program cannot be run.
    """
    if command.log is None:
        return _popen(command, subprocess.PIPE)
    with command.log.open("ab") as log:
        return _popen(command, log)


def run(command: Command) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end and return what it printed.

    Raises ``subprocess.CalledProcessError`` where it fails.
    """
    process = spawn(command)
    output = process.communicate()[0].decode(errors="replace")
    completed = subprocess.CompletedProcess(list(command.arguments), process.returncode, output, output)
    completed.check_returncode()
    return completed


def _popen(command: Command, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    user, group = (command.user.uid, command.user.gid) if command.user else (None, None)
    return subprocess.Popen(
        list(command.arguments),
        env=dict(command.environment),
        cwd=command.directory,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        preexec_fn=_end_with_parent(command.stop_signal),  # noqa: PLW1509  no thread exists in the supervisor
    )


def _end_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """What the child does before it becomes the program; it comes after the change of user, which would clear it."""
    if not sys.platform.startswith("linux"):
        return None
    set_option = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def prepare() -> None:
        set_option(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # the parent died before the kernel was told
            os._exit(1)

    return prepare


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended. It is not reaped, so its process group cannot be taken by another meanwhile."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end_group(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left in the process group of an ended process, reap the process and return its exit status."""
    if process.returncode is None:
        signal_group(process, signal.SIGKILL)
    return process.wait()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process and all that it started in its group. A group that is gone already is no error."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        # Gone; macOS says "not permitted" for a group of which only the unreaped leader is left.
        return
