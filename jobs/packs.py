"""Which totals can be bought in packs: exact for any shortfall, however large.

All totals that packs can make are found once per remainder modulo the largest pack (the wheel): to the smallest total
with that remainder, any number of largest packs can be added. This is the shortest-path method for the coin problem
(A. Nijenhuis, "A minimal-path algorithm for the money changing problem", 1979). Packs are divided by their common
divisor first, so the wheel of 500, 1000, 2500 and 25000 has fifty places.
"""

from __future__ import annotations

import heapq
from math import gcd
from typing import Final

WHEEL_SIZE_MAX: Final = 10_000
"""The largest wheel that is searched: bounds the time of a quote to some hundredths of a second."""


def wheel_size(packs: tuple[int, ...]) -> int:
    """The largest pack over the greatest common divisor of all."""
    return max(packs) // gcd(*packs)


def smallest_total(packs: tuple[int, ...], at_least: int) -> int:
    """The smallest total of one pack or more, each any number of times, that is ``at_least`` or above."""
    unit = gcd(*packs)
    sizes = [pack // unit for pack in packs]
    wheel = max(sizes)
    needed = max(-(-at_least // unit), 1)
    return unit * min(_next_on_wheel(first, needed, wheel) for first in _first_totals(sizes, wheel))


def _next_on_wheel(first: int, needed: int, wheel: int) -> int:
    rounds = max(0, -(-(needed - first) // wheel))
    return first + rounds * wheel


def _first_totals(sizes: list[int], wheel: int) -> list[int]:
    """The smallest total for each remainder modulo ``wheel``; the sizes share no divisor, so each is reached."""
    best = {0: 0}
    queue = [0]
    while queue:
        total = heapq.heappop(queue)
        if total > best[total % wheel]:
            continue
        for longer in (total + size for size in sizes):
            if longer < best.get(longer % wheel, longer + 1):
                best[longer % wheel] = longer
                heapq.heappush(queue, longer)
    return list(best.values())
