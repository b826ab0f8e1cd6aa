"""Processes that an earlier run left behind because it was killed.

A process id in a file proves nothing: the number may belong to another program by now. What counts is what the process
is: a server of the right name that works in the very data directory, or a process whose environment names it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import structlog

log = structlog.get_logger()

# Set for every process that works in no directory of its own, with the data directory of its supervisor as the value.
MARK = "SUPERVISED_BY_REFILL_UP"
_PATIENCE_S = 10.0


def end_servers(names: frozenset[str], directory: Path, stop_signal: signal.Signals) -> None:
    """End every server of these names that works in ``directory``; return when none is left."""
    here = str(directory.resolve())
    _end(lambda process: process.name() in names and process.cwd() == here, stop_signal)


def end_marked(directory: Path) -> None:
    """End every process that an earlier supervisor of ``directory`` started; return when none is left."""
    here = str(directory.resolve())
    _end(lambda process: process.environ().get(MARK) == here, signal.SIGTERM)


def _end(is_leftover: Callable[[psutil.Process], bool], stop_signal: signal.Signals) -> None:
    found = _matching(is_leftover)
    for process in found:
        log.warning("process.leftover_found", pid=process.pid)
        _send(process, stop_signal)
    psutil.wait_procs(found, timeout=_PATIENCE_S)
    # Those that did not listen, and those that the others had started.
    rest = _matching(is_leftover)
    for process in rest:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(rest, timeout=_PATIENCE_S)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _matching(is_leftover: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    others = (process for process in psutil.process_iter() if process.pid != os.getpid())
    return [process for process in others if _holds(is_leftover, process)]


def _holds(is_leftover: Callable[[psutil.Process], bool], process: psutil.Process) -> bool:
    try:
        return is_leftover(process)
    except psutil.Error:  # it ended while being looked at, or is another user's and so none of ours
        return False
