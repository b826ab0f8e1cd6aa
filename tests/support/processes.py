"""Real processes of refill, started, watched, killed and always cleaned up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.waiting import eventually

REFILL = Path(sys.executable).with_name("refill")
ROOT = Path(__file__).resolve().parents[2]

# Names that must not leak from the machine of whoever runs the tests into the processes under test.
_OURS = ("REFILL_", "DATABASE_URL", "REDIS_URL", "STRIPE_", "SMTP_URL", "MAIL_")


def clean_environment(**values: str) -> dict[str, str]:
    """This process's environment without any setting of refill, and with ``values``."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)} | values


class Running:
    """One started process. ``lines`` grows while it prints; standard error is in it too."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return "\n".join(self.lines)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The log lines so far, or those of one event."""
        parsed = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [line for line in parsed if name is None or line.get("event") == name]

    def wait_for_event(self, name: str, /, timeout: float = 30.0, **fields: object) -> dict[str, Any]:
        """The first log line of this event with these fields, waiting for it."""

        def found() -> dict[str, Any] | None:
            matching = (event for event in self.events(name) if fields.items() <= event.items())
            event = next(matching, None)
            assert event is not None or self._process.poll() is None, f"ended without {name}:\n{self.output}"
            return event

        event = eventually(found, timeout)
        assert event is not None
        return event

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, this process alone, and wait until it is gone."""
        self._process.kill()
        self._process.wait(timeout=30)

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM; the exit status."""
        self._process.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = 30.0) -> int:
        """The exit status, waiting for the end and for the last line."""
        status = self._process.wait(timeout)
        self._reader.join(timeout=5)
        return status

    def close(self) -> None:
        """End it and everything below it, whatever state it is in."""
        family = _family(self._process.pid)
        for member in family:
            _kill(member)
        psutil.wait_procs(family, timeout=10)
        self._process.wait(timeout=10)
        self._reader.join(timeout=5)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))


class Processes:
    """All processes of one test."""

    def __init__(self) -> None:
        self._all: list[Running] = []

    def start(
        self,
        arguments: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        user: int | None = None,
    ) -> Running:
        """Start any program; ``user`` is a numeric user id, for tests that are run by root."""
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            env=dict(environment) if environment is not None else clean_environment(),
            cwd=directory,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._all.append(Running(process))
        return self._all[-1]

    def refill(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Running:
        """Start a ``refill`` command; nothing of this machine's own settings reaches it."""
        return self.start([REFILL, *arguments], clean_environment(**(environment or {})))

    def close(self) -> None:
        for running in reversed(self._all):
            running.close()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    if process.is_running():
        process.kill()
