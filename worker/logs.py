"""Logs: one JSON object per line on standard output, or a form for people where that is a terminal.

Everything that a process says goes through here: our events, what libraries log, and what would have been a bare
traceback. ``worker.catalogue`` explains every event.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from worker.failures import failure_of
from worker.jsonlines import encode, rfc3339
from worker.redact import redact

log = structlog.get_logger()

_LEVELS = {"exception": "error", "warn": "warning", "fatal": "critical"}
_CONTROL_CHARACTERS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}


def configure(process: str, log_format: str, log_level: str) -> None:
    """Set up logging for this process, once, before its first line.

    ``process`` is its name in the Procfile; ``log_format`` is ``json``, ``console`` or ``auto`` (console on a
    terminal); ``log_level`` is the least level of our own events. Libraries are heard from ``warning`` on. From here
    on an exception that nobody caught is the line ``process.crashed``.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a line must come out whatever is in it, and whatever the locale
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _with_traceback,
            redact,
            _in_order(process),
            *_renderers(log_format),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level.upper()]),
        logger_factory=lambda *_: _StandardOutput(),
        cache_logger_on_first_use=True,
    )
    _hear_libraries()
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash


def bound(**fields: object) -> AbstractContextManager[None]:
    """Within it, every line of this thread carries these fields: the ids of the row at hand."""
    return structlog.contextvars.bound_contextvars(**fields)


class _StandardOutput:
    """Writes whole lines, one thread at a time. Looks standard output up each time, so that it can be redirected."""

    _one_at_a_time = threading.Lock()

    def write_line(self, line: str) -> None:
        with self._one_at_a_time:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    debug = info = warning = error = critical = exception = write_line


class _LibraryLines(logging.Handler):
    """Passes what libraries log on as our event ``library.logged``."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        log.log(level, "library.logged", logger=record.name, message=_message(record), exc_info=record.exc_info or None)


def _hear_libraries() -> None:
    handler = _LibraryLines(logging.WARNING)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # a library that formats wrongly has still something to say
        return f"{record.msg} {record.args!r}"


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return  # somebody stopped us; the exit status says so
    log.critical("process.crashed", code=failure_of(error).code, error=str(error), exc_info=(kind, error, trace))


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not issubclass(crash.exc_type, SystemExit):
        _log_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _with_traceback(logger: WrappedLogger, method: str, row: EventDict) -> EventDict:
    """The exception at hand as the field ``traceback``; before redaction, since values are quoted in it."""
    row = structlog.processors.format_exc_info(logger, method, row)
    if "exception" in row:
        row["traceback"] = row.pop("exception")
    return row


def _in_order(process: str) -> Processor:
    """Puts what every line has first, so that the eye finds it."""

    def put(_logger: WrappedLogger, method: str, row: EventDict) -> EventDict:
        event = row.pop("event", "")
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fixed = {"timestamp": now, "level": _LEVELS.get(method, method), "event": event, "process": process}
        return fixed | {name: value for name, value in row.items() if name not in fixed}

    return put


def _renderers(log_format: str) -> list[Processor]:
    on_terminal = sys.stdout.isatty()
    if log_format == "json" or (log_format == "auto" and not on_terminal):
        return [_as_json]
    people = structlog.dev.ConsoleRenderer(
        colors=on_terminal, sort_keys=False, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
    )
    return [_for_people, people]


def _as_json(_logger: WrappedLogger, _method: str, row: EventDict) -> str:
    return encode(row)


def _for_people(_logger: WrappedLogger, _method: str, row: EventDict) -> EventDict:
    """Without control characters: what comes from outside shall not steer the terminal of whoever is on call."""
    shown = {name: _tamed(value) for name, value in row.items() if name != "traceback"}
    return shown | {"exception": row["traceback"]} if "traceback" in row else shown


def _tamed(value: object) -> object:
    match value:
        case str():
            return value.translate(_CONTROL_CHARACTERS)
        case datetime():
            return rfc3339(value)
        case _:
            return value
