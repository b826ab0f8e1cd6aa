"""The results as the table of the README, so that nobody copies a number by hand.

    python -m tests.bench.table [build/bench/results.json] [--into README.md]

Prints the table, or puts it between the two marks in a file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.figures import Figure, in_words, target_in_words
from tests.bench.machine import machine_in_words
from tests.bench.report import RESULTS, Result, number_of, result_of

BEGIN, END = "<!-- figures: written by tests/bench/table.py -->", "<!-- end of figures -->"

_HEAD = ("| | figure | measured | target | reached | beside | what the machine did |", "|---|---|---|---|---|---|---|")


def markdown(results: Sequence[Result]) -> str:
    """Where and how it was measured, then a row for each figure that has a target."""
    first = results[0]
    loads = f"{min(r.load_before for r in results):g} to {max(r.load_after for r in results):g}"
    lines = [
        f"Measured on {machine_in_words(dict(first.machine))}; size `{first.size}`, load average {loads}.",
        "",
        *_HEAD,
        *(_row(number_of(result), figure) for result in results for figure in result.figures if figure.targets),
    ]
    return "\n".join(lines) + "\n"


def _row(number: str, figure: Figure) -> str:
    beside = (
        ""
        if figure.baseline is None
        else f"{figure.ratio:.2f} × {figure.baseline.name} ({in_words(figure.baseline.value, figure.unit)})"
    )
    cells = (
        number,
        figure.name,
        in_words(figure.value, figure.unit),
        ", ".join(target_in_words(target, figure.unit) for target in figure.targets),
        "yes" if figure.is_reached else "**no**",
        beside,
        figure.bound,
    )
    return f"| {' | '.join(cells)} |"


def replaced(text: str, table: str) -> str:
    """The text with the table between the marks. Raises ValueError where there are none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no {BEGIN} with a {END} after it")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main() -> None:
    """Reads the results and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS / "results.json")
    parser.add_argument("--into", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    written = json.loads(arguments.results.read_text(encoding="utf-8"))
    table = markdown([result_of(program) for program in written["programs"]])
    if arguments.into is None:
        sys.stdout.write(table)
    else:
        arguments.into.write_text(replaced(arguments.into.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main()
