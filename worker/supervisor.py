"""Keeps processes running, and stops them in order.

    start ──► running ──► ended on its own ──► waiting ──► running ...
                 │         (said in the log)   0.5 s, doubling to 10 s; from 0.5 s again after 30 s of life
                 └──────► asked to stop ──► ended in time, or forced

One thread and one loop do everything: the kernel ends a child with the *thread* that started it, and signals arrive in
the main one. The loop sleeps until a process prints, a process ends, a signal comes or a restart is due.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Self

import structlog

from jobs.errors import RefillError
from worker.output import Lines, Output
from worker.process import Command, end_group, has_exited, signal_group, spawn

log = structlog.get_logger()

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 10.0
_GOOD_LIFE_S = 30.0
_FORCED_PATIENCE_S = 5.0
_READ_BYTES = 65_536
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Process:
    """A process to keep running. ``prepare`` runs before every start. Lower ``stop_rank`` stops earlier."""

    name: str
    command: Command
    prepare: Callable[[], None] = field(default=lambda: None)
    stop_rank: int = 0
    keep_running: bool = True


@dataclass(slots=True)
class _Child:
    process: Process
    lines: Lines
    system: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    delay_s: float = _FIRST_DELAY_S
    restart_at: float | None = None
    ends: int = 0
    status: int | None = None


class Supervisor:
    """See the module. A context manager for the main thread; leaving it stops everything.

    Its signal handlers stay: what follows is the end of this process, which an impatient signal must not turn into a
    traceback.
    """

    def __init__(self, output: Output, stop_timeout_s: float = 20.0) -> None:
        self._output = output
        self._stop_timeout_s = stop_timeout_s
        self._children: dict[str, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self.stopping = False
        self._forced = False

    def __enter__(self) -> Self:
        for end in (self._wake, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in _STOP_SIGNALS:
            # An ignored SIGHUP is nohup's wish. What a script starts with `&` ignores SIGINT, and is to stop by it.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_stop_signal)
        # That there is a handler is enough: it makes the end of a child wake the loop.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def start(self, process: Process) -> None:
        """Start a process and keep it running. Raises what its ``prepare`` raises, and ``OSError``."""
        process.prepare()
        child = _Child(process, Lines(process.name, self._output))
        self._children[process.name] = child
        self._launch(child)
        log.info("process.started", name=process.name, pid=_system(child).pid)

    def run_once(self, process: Process) -> int:
        """Run a process to its end; its exit status. Where a stop is asked for meanwhile it is stopped too."""
        self.start(process)
        child = self._children[process.name]
        while child.system is not None and not self.stopping:
            self.pump(None)
        self._stop_one(child)
        del self._children[process.name]
        status = child.status or 0
        if status and not self.stopping:
            log.error("process.failed", name=process.name, status=_how(status))
        elif not status:
            log.info("process.finished", name=process.name)
        return status

    def ends(self, name: str) -> int:
        """How often this process has ended on its own."""
        return self._children[name].ends

    def run(self) -> None:
        """Keep everything running until a stop is asked for."""
        while not self.stopping:
            self.pump(None)

    def pump(self, timeout_s: float | None) -> None:
        """One turn of the loop, of ``timeout_s`` seconds at most."""
        for key, _events in self._selector.select(self._until_restart(timeout_s)):
            if key.data is None:
                self._drain_wake()
            else:
                self._read(key.data)
        for child in list(self._children.values()):
            self._look_after(child)

    def stop(self) -> None:
        """Stop everything in order and return when nothing is left."""
        self.stopping = True
        if self._children:
            log.info("up.stopping", processes=[child.process.name for child in self._in_stop_order()])
        for child in self._in_stop_order():
            self._stop_one(child)
        self._children.clear()

    def _in_stop_order(self) -> list[_Child]:
        return sorted(self._children.values(), key=lambda child: child.process.stop_rank)

    def _on_stop_signal(self, number: int, _frame: FrameType | None) -> None:
        self._forced = self.stopping and number == signal.SIGINT
        self.stopping = True

    def _until_restart(self, timeout_s: float | None) -> float | None:
        due = [child.restart_at for child in self._children.values() if child.restart_at is not None]
        waits = [max(0.0, at - time.monotonic()) for at in due if not self.stopping]
        return min([*waits, *([] if timeout_s is None else [timeout_s])], default=None)

    def _drain_wake(self) -> None:
        self._wake.recv(_READ_BYTES)

    def _look_after(self, child: _Child) -> None:
        if child.system is not None and has_exited(child.system):
            self._on_exit(child)
        if child.restart_at is not None and time.monotonic() >= child.restart_at and not self.stopping:
            self._restart(child)

    def _launch(self, child: _Child) -> None:
        child.started_at = time.monotonic()
        child.restart_at = None
        child.system = spawn(child.process.command)
        if child.system.stdout is not None:
            os.set_blocking(child.system.stdout.fileno(), False)
            self._selector.register(child.system.stdout, selectors.EVENT_READ, child)

    def _restart(self, child: _Child) -> None:
        try:
            child.process.prepare()
            self._launch(child)
        except (RefillError, OSError) as error:
            delay_s = self._schedule(child)
            log.error("process.restart_failed", name=child.process.name, error=str(error), restart_in_s=delay_s)
            return
        log.info("process.restarted", name=child.process.name, pid=_system(child).pid)

    def _on_exit(self, child: _Child) -> None:
        pid, status = _system(child).pid, self._collect(child)
        if self.stopping or not child.process.keep_running:
            return
        child.ends += 1
        if time.monotonic() - child.started_at >= _GOOD_LIFE_S:
            child.delay_s = _FIRST_DELAY_S
        delay_s = self._schedule(child)
        log.error("process.exited", name=child.process.name, pid=pid, status=_how(status), restart_in_s=delay_s)

    def _schedule(self, child: _Child) -> float:
        """Plan the next start and return in how many seconds it is."""
        delay_s = child.delay_s
        child.restart_at = time.monotonic() + delay_s
        child.delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
        return delay_s

    def _collect(self, child: _Child) -> int:
        """Take an ended process's last lines and its status, and end what it left in its group."""
        system = _system(child)
        status = end_group(system)
        if system.stdout is not None:
            self._read(child)
            self._forget_output(child)
        child.lines.finish()
        child.system, child.status = None, status
        return status

    def _read(self, child: _Child) -> None:
        """Pass on everything that the process has printed by now."""
        system = _system(child)
        if system.stdout is None or system.stdout.closed:
            return
        while True:
            try:
                content = os.read(system.stdout.fileno(), _READ_BYTES)
            except BlockingIOError:
                return
            if not content:
                self._forget_output(child)
                return
            child.lines.add(content)

    def _forget_output(self, child: _Child) -> None:
        output = _system(child).stdout
        if output is not None and not output.closed:
            self._selector.unregister(output)
            output.close()

    def _stop_one(self, child: _Child) -> None:
        child.restart_at = None
        if child.system is None:
            return
        started = time.monotonic()
        if self._forced or not self._ends_within(child, child.process.command.stop_signal, self._stop_timeout_s):
            log.warning("process.forced", name=child.process.name, pid=child.system.pid)
            if not self._ends_within(child, child.process.command.force_signal, _FORCED_PATIENCE_S, patient=True):
                self._ends_within(child, signal.SIGKILL, _FORCED_PATIENCE_S, patient=True)
        log.info("process.stopped", name=child.process.name, duration_ms=round((time.monotonic() - started) * 1000))

    def _ends_within(self, child: _Child, number: signal.Signals, timeout_s: float, *, patient: bool = False) -> bool:
        """Signal the process and wait for its end; unless ``patient``, only until somebody asks for force."""
        if child.system is None:
            return True
        self._signal(child, number)
        deadline = time.monotonic() + timeout_s
        while self._is_running(child) and time.monotonic() < deadline and (patient or not self._forced):
            self.pump(deadline - time.monotonic())
        return not self._is_running(child)

    def _is_running(self, child: _Child) -> bool:
        return child.system is not None

    def _signal(self, child: _Child, number: signal.Signals) -> None:
        """Tell the process; where a shell stands before it, the whole group, because a shell passes nothing on."""
        if number == signal.SIGKILL or child.process.command.arguments[0] == "/bin/sh":
            signal_group(_system(child), number)
        else:
            _system(child).send_signal(number)


def _system(child: _Child) -> subprocess.Popen[bytes]:
    if child.system is None:
        raise RuntimeError(f"{child.process.name} does not run")
    return child.system


def _how(status: int) -> int | str:
    """How a process ended: its exit status, or the signal that ended it by name."""
    return signal.Signals(-status).name if status < 0 else status
