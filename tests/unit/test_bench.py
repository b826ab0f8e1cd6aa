"""The benchmarks' own arithmetic: medians, percentiles, targets, and the tables that they end up in."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from tests.bench.__main__ import programs
from tests.bench.figures import Baseline, Figure, Target, figure_of, in_words, percentile, percentiles, target_in_words
from tests.bench.memory import growth
from tests.bench.report import Result, result_of, show
from tests.bench.sizes import SIZES
from tests.bench.table import BEGIN, END, markdown, replaced
from tests.support.processes import ROOT

MACHINE = {"cores": 2, "cpu": "EPYC", "memory_gb": 25.3, "python": "3.11.7", "postgres": "18.6", "redis": "6.2.5"}
DRAIN = Figure(
    "drain, 1 intake",
    "/s",
    [41_000.0, 30_000.0, 38_000.0],
    (Target(">=", 30_000), Target(">=", 15, of="ratio")),
    Baseline("naive psycopg, 8 clients", 2_000.0),
    bound="2 of 2 cores busy: Postgres 1.31",
)


def result(*figures: Figure, program: str = "f1_drain", size: str = "full") -> Result:
    return Result(program, size, 12.3, 0.4, 1.9, figures, MACHINE)


def test_a_figure_is_the_median_of_its_runs_with_their_spread_and_ratio() -> None:
    assert DRAIN.value == 38_000
    assert DRAIN.spread == pytest.approx(11_000 / 38_000)
    assert DRAIN.ratio == 19


@pytest.mark.parametrize(
    ("direction", "below", "at", "above"),
    [(">=", False, True, True), ("<=", True, True, False), ("<", True, False, False)],
)
def test_a_target_has_a_direction(direction: str, below: bool, at: bool, above: bool) -> None:
    target = Target(direction, 10)  # type: ignore[arg-type]
    assert [target.is_reached_by(number) for number in (9.9, 10, 10.1)] == [below, at, above]


def test_a_figure_is_reached_when_each_of_its_targets_is() -> None:
    assert DRAIN.is_reached is True
    slow_machine = Figure("drain", "/s", [20_000.0], DRAIN.targets, Baseline("naive", 1_000.0))
    fast_baseline = Figure("drain", "/s", [31_000.0], DRAIN.targets, Baseline("naive", 2_500.0))
    assert [slow_machine.is_reached, fast_baseline.is_reached] == [False, False]
    assert Figure("naive", "/s", [1_000.0]).is_reached is None


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed() -> None:
    samples = [float(number) for number in range(100, 0, -1)]
    assert [percentile(samples, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7


def test_latencies_are_the_medians_of_each_runs_percentiles() -> None:
    runs = [[1.0] * 98 + [90.0, 90.0], [2.0] * 98 + [50.0, 50.0], [3.0] * 98 + [10.0, 10.0]]
    p50, p99 = percentiles("XADD to outcome", runs, Target("<=", 5), Target("<=", 25))
    assert (p50.name, p50.value, p50.is_reached) == ("XADD to outcome, p50", 2, True)
    assert (p99.name, p99.value, p99.is_reached) == ("XADD to outcome, p99", 50, False)


def test_growth_leaves_out_how_a_process_settles_in() -> None:
    settling, flat = [10.0, 40.0, 60.0, 79.0], [80.0] * 16
    assert growth(settling + flat) == 0
    assert growth([float(size) for size in range(100)]) == pytest.approx(60)


def test_numbers_are_written_with_their_unit() -> None:
    assert [in_words(31_204.4, "/s"), in_words(4.24, "ms"), in_words(3.456, "s"), in_words(86.2, "MB")] == [
        "31,204/s",
        "4.2 ms",
        "3.46 s",
        "86 MB",
    ]
    written = [target_in_words(target, "/s") for target in DRAIN.targets]
    assert written == ["≥ 30,000/s", "≥ 15 ×"]
    assert target_in_words(Target("<", 5), "s") == "< 5 s"


def test_a_result_is_read_back_as_it_was_written() -> None:
    found = result_of(json.loads(json.dumps(result(DRAIN).to_json())))
    assert found.to_json() == result(DRAIN).to_json()
    assert figure_of(found.figures[0].to_json()).is_reached is True


def test_the_table_says_what_was_reached_within_100_columns() -> None:
    written = io.StringIO()
    missed = Figure("XADD to outcome, p99", "ms", [31.0, 30.0, 90.0], (Target("<=", 25),))
    show([result(DRAIN), result(missed, program="f4_latency")], Console(file=written, width=100))
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    (drain,) = (line for line in lines if "38,000/s" in line)
    assert drain.split()[:1] == ["F1"]
    assert "yes" in drain
    (latency,) = (line for line in lines if "31.0 ms" in line)
    assert "NO" in latency
    assert any("19.00 ×" in line for line in lines)
    assert "F1 drain, 1 intake: 2 of 2 cores busy: Postgres 1.31" in written.getvalue()
    assert "2 cores (EPYC), 25.3 GB of memory" in written.getvalue()


def test_the_readme_gets_a_row_for_each_figure_with_a_target() -> None:
    table = markdown([result(Figure("naive psycopg, 8 clients", "/s", [2_000.0]), DRAIN)])
    row = (
        "| F1 | drain, 1 intake | 38,000/s | ≥ 30,000/s, ≥ 15 × | yes | 19.00 × naive psycopg, 8 clients (2,000/s)"
        " | 2 of 2 cores busy: Postgres 1.31 |"
    )
    assert [line for line in table.splitlines() if line.startswith("| F")] == [row]
    assert "load average 0.4 to 1.9" in table


def test_the_readme_has_a_place_for_the_table() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    once = replaced(readme, "| new |\n")
    assert f"{BEGIN}\n| new |\n{END}" in once
    assert replaced(once, "| newer |\n") == once.replace("| new |", "| newer |")


def test_every_program_runs_in_the_order_of_the_figures_and_one_can_be_chosen() -> None:
    numbers = [int(name.partition("_")[0].removeprefix("f")) for name in programs([])]
    assert numbers == sorted(numbers)
    assert {1, 2, 3, 9, 10, 11} <= set(numbers)
    assert programs(["f1", "f11"]) == ["f1_drain", "f11_start"]


def test_a_size_chooses_what_a_program_needs() -> None:
    assert [SIZES[name].choose(full=20, small=1) for name in ("full", "small")] == [20, 1]
