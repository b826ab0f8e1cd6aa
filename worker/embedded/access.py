"""Who runs PostgreSQL where refill is run by root, and how that user reaches its files.

PostgreSQL refuses to run as root. It then runs as an unprivileged system user, which must be able to pass through every
directory above its data and its programs. Only that, the right to pass, is opened; no directory becomes readable.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

from jobs.errors import RefillError
from worker.process import User

log = structlog.get_logger()

# The first that exists. A machine that has a PostgreSQL of its own has the second; the third exists everywhere.
_CANDIDATES = ("refill", "postgres", "nobody")


class NoServiceUser(RefillError):
    """PostgreSQL cannot run as root, and this machine has no unprivileged user: run refill as another user."""

    code = "no_service_user"
    exit_status = 2


def service_user() -> User | None:
    """The user for PostgreSQL; None where refill is not run by root and so runs it as itself.

    Raises ``NoServiceUser``.
    """
    if os.geteuid() != 0:
        return None
    for name in _CANDIDATES:
        found = _lookup(name)
        if found is not None and found.uid != 0:
            return found
    raise NoServiceUser


def own(path: Path, user: User | None) -> None:
    """Give a file or directory to the user."""
    if user is not None:
        os.chown(path, user.uid, user.gid)


def open_parents(path: Path, user: User | None) -> None:
    """Let the user pass through every directory above ``path``, and say which ones had to be opened."""
    if user is None:
        return
    for directory in path.resolve().parents:
        _add(directory, _missing(directory.stat(), user, stat.S_IXOTH), user)


def open_programs(directory: Path, user: User | None) -> None:
    """Let the user read and run an installed program: under a strict umask its files are readable to root only."""
    if user is None or not _missing(directory.stat(), user, stat.S_IROTH | stat.S_IXOTH):
        return
    for path in _tree(directory):
        status = path.stat()
        runnable = stat.S_ISDIR(status.st_mode) or bool(status.st_mode & stat.S_IXUSR)
        _add(path, _missing(status, user, stat.S_IROTH | (stat.S_IXOTH if runnable else 0)), user, quiet=True)
    log.info("directory.opened", path=str(directory), right="read", user=user.name)


def _lookup(name: str) -> User | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(name, entry.pw_uid, entry.pw_gid)


def _tree(directory: Path) -> Iterator[Path]:
    yield directory
    yield from (path for path in directory.rglob("*") if not path.is_symlink())


def _missing(status: os.stat_result, user: User, rights: int) -> int:
    """The bits that the mode lacks. ``rights`` are bits for others, shifted to the class that counts for the user."""
    if status.st_uid == user.uid:
        rights <<= 6
    elif status.st_gid == user.gid:
        rights <<= 3
    return rights & ~status.st_mode


def _add(path: Path, bits: int, user: User, *, quiet: bool = False) -> None:
    if not bits:
        return
    path.chmod(stat.S_IMODE(path.stat().st_mode) | bits)
    if not quiet:
        log.info("directory.opened", path=str(path), right="pass", user=user.name)
