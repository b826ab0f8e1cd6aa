"""A trace of real use: a CSV file in which each row is one spend. Read whole and checked before anything is sent."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jobs.errors import UsageError
from jobs.spend import AMOUNT_MAX

# What the columns are called in traces that people have, in the order in which they are looked for.
_AMOUNT_COLUMNS: Final = (("ContextTokens", "GeneratedTokens"), ("amount",), ("credits",))
_TIME_COLUMNS: Final = ("TIMESTAMP", "timestamp", "time", "at")


class TraceNotUtf8(UsageError):
    """The file is not UTF-8."""

    code = "not_utf8"


class MissingColumn(UsageError):
    """The file lacks a column."""

    code = "missing_column"


class BadRow(UsageError):
    """A row of the file cannot be read."""

    code = "bad_row"


class FileUnusable(UsageError):
    """The file cannot be opened or has no rows."""

    code = "file_unusable"


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One spend: the row's number in the file (the first after the header is 1), the amount and, where known, when."""

    number: int
    amount: int
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Trace:
    """All rows that spend something, and a fingerprint of the content and of how it was read."""

    rows: Sequence[TraceRow]
    empty_rows: int  # rows that add up to 0 and spend nothing
    fingerprint: str


def read_trace(path: Path, amount_columns: Sequence[str] = (), time_column: str | None = None) -> Trace:
    """Reads the trace; the amounts of several columns are added up. Without names, well-known columns are looked for.

    Times without a zone are UTC. Raises FileUnusable, TraceNotUtf8, MissingColumn and BadRow.
    """
    content = _content(path)
    lines = csv.DictReader(io.StringIO(content, newline=""), restkey="", strict=True)
    columns = list(lines.fieldnames or ())
    amounts = _amount_columns(columns, amount_columns)
    time = _time_column(columns, time_column)
    rows = list(_rows(lines, amounts, time))
    spending = [row for row in rows if row.amount]
    if not spending:
        raise FileUnusable(f"{path} has no row that spends anything")
    key = "\n".join([content, *amounts, time or ""]).encode()
    return Trace(spending, len(rows) - len(spending), hashlib.sha256(key).hexdigest())


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TraceNotUtf8(f"{path} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error
    except OSError as error:
        raise FileUnusable(f"{path}: {error.strerror}") from error


def _amount_columns(columns: Sequence[str], wanted: Sequence[str]) -> Sequence[str]:
    for name in wanted:
        _require(name, columns)
    found = wanted or next((names for names in _AMOUNT_COLUMNS if set(names) <= set(columns)), ())
    if not found:
        raise MissingColumn(f"name the columns to add up with --column-amount; there are {_listed(columns)}")
    return found


def _time_column(columns: Sequence[str], wanted: str | None) -> str | None:
    if wanted is not None:
        return _require(wanted, columns)
    return next((name for name in _TIME_COLUMNS if name in columns), None)


def _require(name: str, columns: Sequence[str]) -> str:
    if name not in columns:
        raise MissingColumn(f"there is no column {name}; there are {_listed(columns)}")
    return name


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns) or "none"


def _rows(lines: csv.DictReader[str], amounts: Sequence[str], time: str | None) -> Iterator[TraceRow]:
    number = 0
    try:
        for number, values in enumerate(lines, start=1):
            amount = sum(_amount(values, name, number) for name in amounts)
            if amount > AMOUNT_MAX:
                raise BadRow(f"row {number}: {amount} is more than an amount may be", row=number)
            yield TraceRow(number, amount, _at(values, time, number) if time else None)
    except csv.Error as error:
        raise BadRow(f"row {number + 1}: {error}", row=number + 1) from error


def _amount(values: Mapping[str, str | None], column: str, number: int) -> int:
    text = (values[column] or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 32):
        raise BadRow(f"row {number}: {column} must be a whole number, not {text[:40]!r}", row=number, column=column)
    return int(text)


def _at(values: Mapping[str, str | None], column: str, number: int) -> datetime:
    text = (values[column] or "").strip()
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise BadRow(f"row {number}: {column} must be a date and time, not {text[:40]!r}", row=number) from error
