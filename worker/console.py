"""What the command line says: tables for people, one JSON object per line with ``--json``, and errors for both.

Answers go to standard output. Errors and notes go to standard error, so that a pipe carries answers only. With
``--json`` an error is one object on standard error too: ``{"error": code, "message": sentence, ...details}``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.failures import EXIT_INTERRUPTED, failure_of
from worker.jsonlines import encode, plain, rfc3339

Row = Mapping[str, object]

_WIDTH_UNBOUND = 10_000  # into a pipe or a file nothing is cut or wrapped
_CONTROL_CHARACTERS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: ``key`` is the field of the rows; ``heading`` is for people. Numbers stand right."""

    key: str
    heading: str
    justify: Literal["left", "right"] = "left"


@dataclass(frozen=True, slots=True)
class Printer:
    """Says what a command has found, in the form that was asked for."""

    as_json: bool = False

    def rows(
        self,
        columns: Iterable[Column],
        rows: Iterable[Row],
        *,
        title: str | None = None,
        empty: str = "",
        compact: bool = False,
    ) -> None:
        """Several things of one kind. With ``--json`` every field of every row; for people the columns.

        A row may hold an amount as an integer beside its currency, and text for people in a column of its own (see
        ``jobs.money``): the columns choose. ``empty`` is said to people where there is none. A ``compact`` table has no
        lines of its own, so that several of them make one screen.
        """
        if self.as_json:
            for row in rows:
                self._line(row)
            return
        table = _table(columns, rows, title)
        if compact:
            table.box, table.padding, table.header_style, table.collapse_padding = None, (0, 2, 0, 0), "dim", True
        if table.row_count or not empty:
            _console().print(table)
        else:
            self.note(empty)

    def record(self, row: Row, *, title: str | None = None) -> None:
        """One thing: with ``--json`` one object, for people its fields one below the other."""
        if self.as_json:
            self._line(row)
            return
        columns = (Column("name", ""), Column("value", ""))
        fields = ({"name": name.replace("_", " "), "value": value} for name, value in row.items() if value is not None)
        table = _table(columns, fields, title)
        table.show_header = False
        _console().print(table)

    def done(self, sentence: str, row: Row) -> None:
        """What a command has done: a sentence for people, the ``row`` with ``--json``."""
        if self.as_json:
            self._line(row)
        else:
            _console().print(Text(_tamed(sentence)))

    def note(self, sentence: str) -> None:
        """A remark for people beside the answer, on standard error; programs are spared it."""
        if not self.as_json:
            _console(error=True).print(Text(_tamed(sentence), style="dim"))

    def failure(self, error: BaseException) -> int:
        """Say what went wrong, without a traceback, and return the exit status of the process."""
        failure = failure_of(error)
        sys.stdout.flush()  # what was answered before it failed comes first, also where both go to one pipe
        if self.as_json:
            told = {"error": failure.code, "message": failure.message}
            sys.stderr.write(
                encode(told | {name: value for name, value in failure.details.items() if name not in told}) + "\n"
            )
        elif failure.exit_status != EXIT_INTERRUPTED:
            text = Text.assemble(
                ("error:", "bold red"), f" {_tamed_lines(failure.message)} ", (f"[{failure.code}]", "dim")
            )
            _console(error=True).print(text)
        return failure.exit_status

    def _line(self, row: Row) -> None:
        sys.stdout.write(encode(row) + "\n")


def shown(value: object) -> str:
    """A value as a cell of a table. Amounts and money are text already: ``jobs.money`` forms them."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case datetime():
            return rfc3339(value.replace(microsecond=0)).replace("T", " ")
        case date():
            return value.isoformat()
        case list() | tuple() | set() | frozenset():
            return ", ".join(shown(one) for one in value)
        case Mapping():
            return ", ".join(f"{name} {shown(one)}" for name, one in value.items())
        case _:
            return _tamed(str(plain(value)))


def _table(columns: Iterable[Column], rows: Iterable[Row], title: str | None) -> Table:
    columns = tuple(columns)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.heading, justify=column.justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(row.get(column.key))) for column in columns))
    return table


def _console(*, error: bool = False) -> Console:
    stream = sys.stderr if error else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else _WIDTH_UNBOUND,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=error,
    )


def _tamed(text: str) -> str:
    """Without control characters: data from outside shall not steer a terminal."""
    return text.translate(_CONTROL_CHARACTERS)


def _tamed_lines(text: str) -> str:
    return "\n".join(_tamed(line) for line in text.splitlines())
