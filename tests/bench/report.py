"""What a program found, for people and for machines."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure, figure_of, in_words, target_in_words
from tests.bench.machine import load_average, machine, machine_in_words
from tests.bench.sizes import SIZES, Size

RESULTS = Path("build") / "bench"
WIDTH = 100

_REACHED: Mapping[bool | None, str] = {True: "yes", False: "NO", None: ""}


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one program. The books were proved, or there would be none."""

    program: str
    size: str
    seconds: float
    load_before: float
    load_after: float
    figures: Sequence[Figure]
    machine: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """All of it; `result_of` reads it back."""
        return {
            "program": self.program,
            "size": self.size,
            "seconds": round(self.seconds, 1),
            "load_before": self.load_before,
            "load_after": self.load_after,
            "machine": dict(self.machine),
            "figures": [figure.to_json() for figure in self.figures],
        }


def result_of(written: Mapping[str, Any]) -> Result:
    """The result that `to_json` wrote."""
    figures = [figure_of(figure) for figure in written["figures"]]
    values = {name: value for name, value in written.items() if name != "figures"}
    return Result(figures=figures, **values)


def run_program(program: str, description: str | None, measure: Callable[[Size], Sequence[Figure]]) -> None:
    """The command line of a program that has no options but its size."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    report(program, SIZES[parser.parse_args().size], measure)


def report(program: str, size: Size, measure: Callable[[Size], Sequence[Figure]]) -> None:
    """Measures, and shows and keeps what was found: a table, and `build/bench/PROGRAM.json`."""
    end_in_order()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    load_before, began = load_average(), time.monotonic()
    figures = measure(size)
    seconds = time.monotonic() - began
    result = Result(program, size.name, seconds, load_before, load_average(), figures, machine())
    show([result])
    RESULTS.mkdir(parents=True, exist_ok=True)
    written = json.dumps(result.to_json(), indent=2, ensure_ascii=False)
    (RESULTS / f"{program}.json").write_text(written + "\n", encoding="utf-8")


def end_in_order() -> None:
    """SIGTERM ends this process as an error would: what it started is stopped and its ledgers are removed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def show(results: Sequence[Result], console: Console | None = None) -> None:
    """All figures in one table, with what bounds them and where they were measured."""
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=_title(results), title_justify="left")
    for heading, options in _COLUMNS:
        table.add_column(heading, **options)
    for result in results:
        for figure in result.figures:
            table.add_row(*_cells(result, figure))
        table.add_section()
    console.print(table)
    for result in results:
        for bound in dict.fromkeys(figure.bound for figure in result.figures if figure.bound):
            names = "; ".join(figure.name for figure in result.figures if figure.bound == bound)
            console.print(f"[bold]{number_of(result)} {names}[/bold]: {bound}", highlight=False)
    console.print(f"\n{machine_in_words(dict(results[0].machine))}.", highlight=False)


_COLUMNS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("", {"no_wrap": True}),
    ("figure", {"ratio": 5}),
    ("measured", {"justify": "right", "no_wrap": True}),
    ("target", {"no_wrap": True}),
    ("reached", {"no_wrap": True}),
    ("runs (spread)", {"ratio": 4}),
    ("times", {"ratio": 4}),
)


def _cells(result: Result, figure: Figure) -> tuple[str, ...]:
    reached = _REACHED[figure.is_reached]
    return (
        number_of(result),
        figure.name,
        in_words(figure.value, figure.unit),
        "\n".join(target_in_words(target, figure.unit) for target in figure.targets),
        f"[red]{reached}[/red]" if figure.is_reached is False else reached,
        _runs(figure),
        "" if figure.baseline is None else f"{figure.ratio:.2f} × {figure.baseline.name.partition(',')[0]}",
    )


def _runs(figure: Figure) -> str:
    """The runs without their unit, and how far they lie apart."""
    if len(figure.runs) == 1:
        return ""
    runs = " ".join(in_words(run, figure.unit).split()[0].removesuffix(figure.unit) for run in figure.runs)
    return f"{runs} ({figure.spread:.0%})"


def number_of(result: Result) -> str:
    """The figure's number in the design: `F1`."""
    return result.program.partition("_")[0].upper()


def _title(results: Sequence[Result]) -> str:
    first, last = results[0], results[-1]
    what = first.program if len(results) == 1 else f"{len(results)} programs"
    seconds = sum(result.seconds for result in results)
    size = "" if first.size == "full" else f", size {first.size} (the targets are for the full size)"
    return f"{what}{size}, {seconds:.0f} s, load average {first.load_before} before and {last.load_after} after"
