"""All figures: `python -m tests.bench [--size small|full]`, which is `make bench [SIZE=small]`."""

from __future__ import annotations

import argparse

from tests.bench import f1_drain, f3_spend_function
from tests.bench.ground import SIZES, report


def main() -> None:
    """Measures one figure after the other and reports each as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    size = parser.parse_args().size
    report("f1_drain", size, f1_drain.measure(SIZES[size], [1, 2]))
    report("f3_spend_function", size, f3_spend_function.measure(SIZES[size]))


if __name__ == "__main__":
    main()
