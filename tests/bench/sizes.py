"""How much of everything a benchmark takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Size:
    """`full` is what the targets are for; `small` shows in a few minutes whether something broke."""

    name: str
    accounts: int
    events: int
    baseline_s: float

    def choose(self, *, full: Value, small: Value) -> Value:
        """What one program needs at each size."""
        return full if self.name == "full" else small


SIZES = {"small": Size("small", 10_000, 50_000, 3.0), "full": Size("full", 100_000, 500_000, 6.0)}
