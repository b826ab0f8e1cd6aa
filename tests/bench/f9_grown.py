"""F9: the drain of F1 into a ledger that has twenty million entries already, beside the same drain into an empty one.

    python -m tests.bench.f9_grown [--size small|full]

Both ledgers lie on one server and are drained into in turn, the same events each time. Event ids are random UUIDs, so
that each new one is looked for and kept anywhere in the index of all that ever were.
"""

from __future__ import annotations

import random
import tempfile
import uuid
from pathlib import Path

from tests.bench.backlog import Backlog, Drained, Event
from tests.bench.figures import RUNS, Figure, Target
from tests.bench.ground import Ground, ground
from tests.bench.grown import PAST, check_room, grow
from tests.bench.report import run_program
from tests.bench.sizes import Size
from tests.bench.truth import Witness, outcomes, prove, some_accounts

TARGETS = (Target(">=", 0.8, of="ratio"),)


def measure(size: Size) -> list[Figure]:
    """The drain into both, in turn; then both are proved as a whole."""
    entries = size.choose(full=20_000_000, small=1_000_000)
    events = size.choose(full=250_000, small=size.events)  # half of F1's: the books of all these years are proved too
    check_room(entries, Path(tempfile.gettempdir()))
    with ground(size.accounts, granted_ago=PAST) as place:
        urls = place.ledger("empty"), place.ledger("grown")
        empty, grown = _Ledger(place, urls[0], 0), _Ledger(place, urls[1], grow(urls[1], entries))
        for run in range(RUNS):
            backlog = Backlog(place.redis_url, random_ids(events, size.accounts, run))
            empty.drain(backlog)
            grown.drain(backlog)
        for ledger in (empty, grown):
            ledger.prove()
    beside = Figure("drain, 1 intake, an empty ledger", "/s", empty.rates)
    name = f"drain, 1 intake, {entries // 1_000_000} million entries before"
    return [beside, Figure(name, "/s", grown.rates, TARGETS, beside.as_baseline, bound=grown.drained[-1].busy)]


def random_ids(events: int, accounts: int, run: int) -> list[Event]:
    """Spends as in F1, with ids that come in no order."""
    draw = random.Random(f"{events} {run}")
    return [
        Event(str(uuid.UUID(int=draw.getrandbits(128))), f"account-{draw.randint(1, accounts)}", draw.randint(1, 100))
        for _ in range(events)
    ]


class _Ledger:
    """One of the two ledgers, and what was done to it."""

    def __init__(self, place: Ground, url: str, spent: int) -> None:
        self._place = place
        self._held = place.held - spent
        self._url = url
        self._posted = dict(outcomes(self._url))
        self._witness = Witness(self._url, some_accounts(place.accounts))
        self.drained: list[Drained] = []
        self.rates: list[float] = []

    def drain(self, backlog: Backlog) -> None:
        """Posts the backlog on top of what is there."""
        backlog.shown_to(self._witness)
        self.drained.append(backlog.drain(self._place, self._url, intakes=1))
        self.rates.append(len(backlog.events) / self.drained[-1].seconds)
        count, credits_spent = self._posted.get("accepted", (0, 0))
        self._posted["accepted"] = count + len(backlog.events), credits_spent + backlog.credits
        self._held -= backlog.credits

    def prove(self) -> None:
        """Everything since the first event was posted once. Raises AssertionError."""
        assert outcomes(self._url) == self._posted, (outcomes(self._url), self._posted)
        self._witness.testify(in_order=True)
        prove(self._url, self._held)


if __name__ == "__main__":
    run_program("f9_grown", __doc__, measure)
