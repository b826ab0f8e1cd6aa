"""The file of an archived month: entries as compressed CSV, written so that it is whole or not there, and read back.

Memory is bounded whatever a month holds. The file gets its name only when its content lies on the disk and was read
back and found to be what was meant.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.errors import Refused

CHUNK_BYTES: Final = 1 << 20
COMPRESSION: Final = 3  # a third of the time of the usual 6, for a tenth more space
REPORTED_ROWS: Final = 10_000

Progress = Callable[[int], None]
"""Is told how many more rows were dealt with."""


class ArchiveUnwritable(Refused):
    """The file of an archive cannot be written; the entries are where they were."""

    code = "archive_unwritable"


class ArchiveDamaged(Refused):
    """The file of an archive cannot be read, or does not hold what it should."""

    code = "archive_damaged"


@dataclass(frozen=True, slots=True)
class Content:
    """What entries come to: how many, the sum of their amounts, and their first and last id (0 where there is none)."""

    rows: int
    credits: int
    first_entry_id: int
    last_entry_id: int


def write(path: Path, chunks: Iterable[bytes], expected: Content, progress: Progress) -> None:
    """Writes the CSV that comes in `chunks` to `path`, which then exists whole, on the disk and read back.

    Raises ArchiveUnwritable (a full disk, a directory that may not be written) and ArchiveDamaged.
    """
    draft = path.with_name(path.name + ".partial")
    with _told_as_unwritable(draft):
        _write_draft(draft, chunks)
        check(draft, expected, progress)
        draft.replace(path)
        _sync_directory(path.parent)


def check(path: Path, expected: Content, progress: Progress = lambda count: None) -> None:
    """Reads the file. Raises ArchiveDamaged where it does not hold exactly `expected`."""
    found = _content(path, progress)
    if found != expected:
        raise ArchiveDamaged(f"{path} holds {found}, not {expected}.")


def digest(path: Path) -> str:
    """The sha256 of the file as it lies there. Raises ArchiveDamaged where it cannot be read."""
    with _told_as_damaged(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def columns(path: Path) -> list[str]:
    """What the entries in the file have. Raises ArchiveDamaged."""
    with _told_as_damaged(path), gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def chunks(path: Path) -> Iterator[bytes]:
    """The CSV in the file. Raises ArchiveDamaged."""
    with _told_as_damaged(path), gzip.open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _write_draft(draft: Path, chunks: Iterable[bytes]) -> None:
    # Entries name customers: nobody else reads them. No time and no name inside: the same rows are the same file.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw:
        with (
            gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as packed,
            io.BufferedWriter(packed, CHUNK_BYTES) as file,
        ):
            for chunk in chunks:
                file.write(chunk)
        raw.flush()
        os.fsync(raw.fileno())


def _content(path: Path, progress: Progress) -> Content:
    count = credits_sum = last = 0
    first = None
    with _told_as_damaged(path), gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        id_at, amount_at = header.index("entry_id"), header.index("amount")
        for row in rows:
            count += 1
            credits_sum += int(row[amount_at])
            entry_id = int(row[id_at])
            first = entry_id if first is None else min(first, entry_id)
            last = max(last, entry_id)
            if count % REPORTED_ROWS == 0:
                progress(REPORTED_ROWS)
    progress(count % REPORTED_ROWS)
    return Content(count, credits_sum, first or 0, last)


def _sync_directory(directory: Path) -> None:
    """Makes the new name as lasting as the content."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told_as_unwritable(draft: Path) -> Iterator[None]:
    """A failure takes the half file away; a kill leaves it, and the next run writes over it."""
    try:
        yield
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ArchiveUnwritable(f"{draft} cannot be written: {error.strerror or error}.") from error
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def _told_as_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, IndexError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ArchiveDamaged(f"{path} cannot be read: {reason}.") from error
