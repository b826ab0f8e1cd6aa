"""Figures: a number, what it is measured against, and whether that is reached."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

RUNS = 3

_DIGITS = {"ms": 1, "s": 2, "MB": 0, "%": 1}  # decimals; other units are rates and counts
_RISES: Mapping[str, str] = {">=": "≥", "<=": "≤", "<": "<"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure shall reach: a bound on its value, in the figure's unit, or on its ratio to the baseline."""

    direction: Literal[">=", "<=", "<"]
    number: float
    of: Literal["value", "ratio"] = "value"

    def is_reached_by(self, number: float) -> bool:
        """Whether the number is on the right side."""
        match self.direction:
            case ">=":
                return number >= self.number
            case "<=":
                return number <= self.number
            case "<":
                return number < self.number


@dataclass(frozen=True, slots=True)
class Baseline:
    """What was measured beside a figure, in the same run and the same unit."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number: the median of its runs. `bound` says what keeps it from being better, in a sentence."""

    name: str
    unit: str
    runs: Sequence[float]
    targets: Sequence[Target] = ()
    baseline: Baseline | None = None
    bound: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.runs)

    @property
    def spread(self) -> float:
        """How far the runs lie apart, as a part of the median."""
        return (max(self.runs) - min(self.runs)) / self.value if self.value else 0.0

    @property
    def ratio(self) -> float | None:
        """How many times the baseline it is."""
        return None if self.baseline is None else self.value / self.baseline.value

    @property
    def as_baseline(self) -> Baseline:
        """This figure as what another one is measured against."""
        return Baseline(self.name, self.value)

    @property
    def is_reached(self) -> bool | None:
        """Whether all targets are reached; None where there is none."""
        if not self.targets:
            return None
        return all(target.is_reached_by(self._number(target)) for target in self.targets)

    def _number(self, target: Target) -> float:
        if target.of == "value":
            return self.value
        assert self.ratio is not None, f"{self.name} has a target for its ratio and no baseline"
        return self.ratio

    def to_json(self) -> dict[str, Any]:
        """All of it, for the results on disk."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "runs": list(self.runs),
            "spread": round(self.spread, 3),
            "targets": [{"of": t.of, "direction": t.direction, "number": t.number} for t in self.targets],
            "reached": self.is_reached,
            "baseline": None if self.baseline is None else {"name": self.baseline.name, "value": self.baseline.value},
            "ratio": self.ratio,
            "bound": self.bound,
        }


def figure_of(result: Mapping[str, Any]) -> Figure:
    """The figure that `to_json` wrote."""
    return Figure(
        result["name"],
        result["unit"],
        result["runs"],
        tuple(Target(target["direction"], target["number"], target["of"]) for target in result["targets"]),
        None if result["baseline"] is None else Baseline(**result["baseline"]),
        result["bound"],
    )


def percentiles(
    name: str, runs_ms: Sequence[Sequence[float]], p50: Target, p99: Target, bound: str = ""
) -> list[Figure]:
    """The latencies of some runs, in milliseconds, as two figures: the medians of the runs' p50 and of their p99."""
    return [
        Figure(f"{name}, p{percent}", "ms", [percentile(run, percent) for run in runs_ms], (target,), bound=bound)
        for percent, target in ((50, p50), (99, p99))
    ]


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that so many percent of all do not exceed."""
    ordered = sorted(samples)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def in_words(number: float, unit: str) -> str:
    """A number with its unit, as a person reads it: `30,000/s`, `4.2 ms`."""
    text = f"{number:,.{_DIGITS.get(unit, 0)}f}"
    return f"{text}{unit}" if unit.startswith("/") else f"{text} {unit}"


def target_in_words(target: Target, unit: str) -> str:
    """`≥ 30,000/s`, `≥ 15 ×`."""
    number = f"{target.number:g} ×" if target.of == "ratio" else _short(target.number, unit)
    return f"{_RISES[target.direction]} {number}"


def _short(number: float, unit: str) -> str:
    text = f"{number:,g}" if number < 1_000 else f"{number:,.0f}"
    return f"{text}{unit}" if unit.startswith("/") else f"{text} {unit}"
