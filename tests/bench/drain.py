"""A backlog drained some times over, each time into a fresh ledger that is proved afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.bench.backlog import Backlog, Drained
from tests.bench.figures import RUNS, Baseline, Figure, Target
from tests.bench.ground import Ground
from tests.bench.truth import Witness, credits_held, outcomes, prove_audit, some_accounts


def drains(
    place: Ground,
    backlog: Backlog,
    intakes: int,
    targets: Sequence[Target],
    baseline: Baseline | None = None,
    of: str = "",
    runs: int = RUNS,
) -> Figure:
    """Events per second with so many intakes; `of` names what is drained, where that is not plain."""
    done = [_drain(place, backlog, intakes, is_audited=run == runs - 1) for run in range(runs)]
    rates = [len(backlog.events) / drained.seconds for drained in done]
    middle = sorted(done)[runs // 2]
    name = f"drain{' of ' * bool(of)}{of}, {intakes} intake{'s' * (intakes > 1)}"
    return Figure(name, "/s", rates, targets, baseline, bound=middle.busy)


def _drain(place: Ground, backlog: Backlog, intakes: int, is_audited: bool) -> Drained:
    """One drain. Each is counted and compared with the oracle; the whole audit of the last stands for all."""
    name = f"drain_{time.monotonic_ns()}"
    url = place.ledger(name)
    witness = backlog.shown_to(Witness(url, some_accounts(place.accounts)))
    drained = backlog.drain(place, url, intakes)
    assert outcomes(url) == {"accepted": (len(backlog.events), backlog.credits)}, outcomes(url)
    witness.testify(in_order=intakes == 1)
    assert credits_held(url) == place.held - backlog.credits
    if is_audited:
        prove_audit(url)
    place.drop(name)
    return drained
