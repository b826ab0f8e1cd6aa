"""F3: `refill.spend()` as an upstream calls it, one event in a transaction, eight clients, beside pgbench's own TPC-B.

    python -m tests.bench.f3_spend_function [--size small|full]

pgbench drives both, in turn, so that only what the server does differs. Event ids are random.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.bench.cores import Cores
from tests.bench.figures import RUNS, Figure, Target
from tests.bench.ground import Ground, ground
from tests.bench.machine import postgres_program
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.truth import Witness, outcomes, prove, some_accounts

CLIENTS = 8
TARGETS = (Target(">=", 1.0, of="ratio"),)

_SCALE = 10  # of pgbench: more branches than clients, so that they do not queue for one row
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_DONE = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_SPEND = """
\\set account random(1, {accounts})
\\set amount random(1, 100)
\\set event random(1, 9000000000000000000)
select * from refill.spend('account-' || :account, :amount, 'e-' || :event);
"""


class Load(NamedTuple):
    """What pgbench did: transactions per second, and how many there were."""

    per_second: float
    transactions: int
    busy: str


def measure(size: Size) -> list[Figure]:
    """TPC-B and the function, in turn; then everything that was posted is proved."""
    with ground(size.accounts) as place:
        url = place.ledger("f3")
        witness = Witness(url, some_accounts(place.accounts))
        _pgbench(url, "--initialize", "--quiet", f"--scale={_SCALE}")
        both = [(_tpc_b(place, url, size), spend_load(place, url, size)) for _ in range(RUNS)]
        _prove(place, url, witness, sum(spent.transactions for _, spent in both))
    middle_b, middle = (sorted(one)[RUNS // 2] for one in zip(*both, strict=True))
    runs = [first.per_second for first, _ in both]
    tpc_b = Figure(f"pgbench TPC-B, {CLIENTS} clients", "/s", runs, bound=middle_b.busy)
    runs = [second.per_second for _, second in both]
    return [
        tpc_b,
        Figure(f"refill.spend(), {CLIENTS} clients", "/s", runs, TARGETS, tpc_b.as_baseline, bound=middle.busy),
    ]


def _prove(place: Ground, url: str, witness: Witness, transactions: int) -> None:
    """Each transaction posted one event, and all of them what the oracle says. Raises AssertionError."""
    (outcome, (count, spent)), *others = outcomes(url).items()
    assert (outcome, count, others) == ("accepted", transactions, []), (outcome, count, others, transactions)
    witness.testify_to_what_was_booked()
    prove(url, place.held - spent)


def _tpc_b(place: Ground, url: str, size: Size) -> Load:
    return _load(place, url, size)


def spend_load(place: Ground, url: str, size: Size) -> Load:
    """Eight clients that call the function."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "spend.sql"
        script.write_text(_SPEND.format(accounts=place.accounts))
        return _load(place, url, size, "--no-vacuum", f"--file={script}")


def _load(place: Ground, url: str, size: Size, *what: str) -> Load:
    cores = Cores(place, {"pgbench": [os.getpid()]})
    seconds = round(size.baseline_s)
    output = _pgbench(url, f"--client={CLIENTS}", "--jobs=2", "--protocol=prepared", f"--time={seconds}", *what)
    transactions = int(_found(_DONE, output))
    return Load(float(_found(_RATE, output)), transactions, cores.in_words(transactions))


def _pgbench(url: str, *arguments: str) -> str:
    command = [str(postgres_program("pgbench")), *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PGTZ": "UTC"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def _found(pattern: re.Pattern[str], output: str) -> str:
    found = pattern.search(output)
    assert found, output
    return found[1]


if __name__ == "__main__":
    run_program("f3_spend_function", __doc__, measure)
