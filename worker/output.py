"""What supervised processes print, passed on line by line: prefixed and coloured for a person, JSON for a machine."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

import orjson
from honcho.colour import get_colours

_LINE_BYTES_MAX = 65_536


class Output:
    """Where lines go. ``readable`` is for a terminal; otherwise every line is one JSON object."""

    def __init__(self, readable: bool, stream: TextIO | None = None, name_width: int = 9) -> None:
        self.readable = readable
        self._stream = sys.stdout if stream is None else stream
        self._name_width = name_width
        self._colours = get_colours()
        self._prefixes: dict[str, str] = {}
        self.started: set[str] = set()
        """The processes that have said that they are at work."""

    def write(self, name: str, line: str) -> None:
        """Pass on one line of the process ``name``."""
        if f"{name}.started" in line:
            self.started.add(name)
        self._stream.write(f"{self._prefix(name)}{line}\n" if self.readable else f"{_as_json(name, line)}\n")
        self._stream.flush()

    @contextlib.contextmanager
    def for_own_lines(self, name: str) -> Iterator[None]:
        """On a terminal, what this very process prints inside the block is prefixed like all the rest."""
        if not self.readable:
            yield
            return
        with contextlib.redirect_stdout(_Prefixed(Lines(name, self))):
            yield

    def _prefix(self, name: str) -> str:
        if name not in self._prefixes:
            self._prefixes[name] = f"\x1b[{next(self._colours)}m{name:<{self._name_width}} |\x1b[0m "
        return self._prefixes[name]


class Lines:
    """Cuts what one process prints into lines."""

    def __init__(self, name: str, output: Output) -> None:
        self._name = name
        self._output = output
        self._rest = b""

    def add(self, content: bytes) -> None:
        """Pass on the lines that are complete; a line without end is cut, so that no process can fill the memory."""
        *complete, self._rest = (self._rest + content).split(b"\n")
        for line in complete:
            self._write(line)
        if len(self._rest) > _LINE_BYTES_MAX:
            self.finish()

    def finish(self) -> None:
        """Pass on what is left without a line end."""
        if self._rest:
            self._write(self._rest)
        self._rest = b""

    def _write(self, line: bytes) -> None:
        self._output.write(self._name, line.decode(errors="replace").rstrip("\r"))


class _Prefixed(io.TextIOBase):
    """A text stream that passes its lines to an output."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def write(self, text: str) -> int:
        self._lines.add(text.encode(errors="backslashreplace"))
        return len(text)


def silence_standard_output() -> None:
    """Let what is printed from now on go nowhere, because nobody is there to read it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _as_json(name: str, line: str) -> str:
    """The line itself where it is a JSON object, else the text of it as an event, so that a reader meets only JSON."""
    if line.startswith("{") and line.endswith("}"):
        return line
    event = {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": "error" if line.startswith("error:") else "info",
        "event": "process.printed",
        "process": name,
        "line": line,
    }
    return orjson.dumps(event).decode()
