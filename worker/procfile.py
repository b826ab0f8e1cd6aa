"""The Procfile: which processes make up refill, and the command of each."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from honcho.environ import parse_procfile

from jobs.errors import UsageError

# As make does: a line with none of these outside single quotes needs no shell. Without one the process itself is asked
# to stop and has time for it; a shell ends at once, and what it ran is killed with it.
_NEEDS_SHELL = frozenset('|&;<>()$`\\"*?[]#~=%{}!')
_SINGLE_QUOTED = re.compile("'[^']*'")


class BadProcfile(UsageError):
    """The Procfile has no line of the form `name: command`."""

    code = "bad_procfile"


def packaged_procfile() -> Path:
    """The project's own Procfile."""
    return Path(__file__).parent / "Procfile"


def read_procfile(path: Path) -> dict[str, list[str]]:
    """The arguments of each process by its name, in the order of the file.

    Raises ``BadProcfile`` and ``OSError``.
    """
    try:
        processes: Mapping[str, str] = parse_procfile(path.read_text()).processes
    except AssertionError as error:
        raise BadProcfile(f"{path} has two lines of one name") from error
    if not processes:
        raise BadProcfile(f"{path} has no line of the form `name: command`")
    return {name: _arguments(line) for name, line in processes.items()}


def search_path(programs: Path) -> str:
    """A PATH on which ``refill`` is the one of this very environment."""
    return os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])


def _arguments(line: str) -> list[str]:
    if _NEEDS_SHELL.isdisjoint(_SINGLE_QUOTED.sub("", line)):
        return shlex.split(line)
    return ["/bin/sh", "-c", line]
