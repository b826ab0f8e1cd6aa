"""Every exception that reaches the edge of a process, as a code, a sentence and an exit status: mapped here only."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import psycopg.errors
import redis.exceptions

from config.settings import SettingsError
from jobs.errors import DatabaseUnavailable, PortInUse, RedisUnavailable, RefillError, SchemaOutdated
from worker.redact import redacted

EXIT_REFUSED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells expect

_SCHEMA_IS_OTHER = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as people and programs are told it. ``code`` is stable; ``details`` are fields of their own."""

    code: str
    message: str
    exit_status: int = EXIT_REFUSED
    details: Mapping[str, object] = field(default_factory=dict)


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception means. One that nobody foresaw is ``internal_error``, with where it came from."""
    match error:
        case RefillError():
            return Failure(error.code, str(error), error.exit_status, error.details)
        case SettingsError():
            faults = [{"name": one.name, "value": one.value, "message": one.message} for one in error.faults]
            return Failure(error.code, str(error), error.exit_status, {"faults": faults})
        case KeyboardInterrupt():
            return Failure("interrupted", "Stopped from the keyboard.", EXIT_INTERRUPTED)
        case psycopg.Error():
            return _of_database(error)
        case redis.exceptions.ConnectionError() | redis.exceptions.TimeoutError():
            return _instead(RedisUnavailable, error)
        case OSError(errno=errno.EADDRINUSE):
            return _instead(PortInUse, error)
        case OSError(filename=str() as filename):
            return Failure("file_unusable", f"{filename}: {error.strerror}")
        case _:
            return Failure("internal_error", f"{_first_line(error)} (in {_place(error)})")


def _of_database(error: psycopg.Error) -> Failure:
    if isinstance(error, _SCHEMA_IS_OTHER):
        return _instead(SchemaOutdated, error)
    # 08: connection exception; 57P: the server stops or starts; without a state nothing was answered at all.
    if isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith(("08", "57P")):
        return _instead(DatabaseUnavailable, error)
    return Failure("database_error", f"The database refused: {_first_line(error)}", details={"state": error.sqlstate})


def _instead(kind: type[RefillError], error: BaseException) -> Failure:
    """The failure of our own error tree that a library's exception stands for, with the library's words behind ours."""
    return Failure(kind.code, f"{str(kind()).rstrip('.')}: {_first_line(error)}", kind.exit_status)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return redacted(lines[0] if lines else type(error).__name__)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    return f"{type(error).__name__}, {Path(frames[-1].filename).name} line {frames[-1].lineno}"
