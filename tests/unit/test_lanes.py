"""Lanes post side by side, each in its order, few events together, and never more than there is room for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.quarantine import Quarantined
from jobs.spend import SpendEvent
from tests.support.waiting import eventually
from worker.batch import Batch, Readable, joined, parted
from worker.lanes import BATCHES_PER_LANE, FEW, Lanes
from worker.stream import Entry

MANY = FEW + 1
BATCH_MAX = 4 * MANY


def row(event_id: str, account: str = "camp") -> Readable:
    return Readable(Entry(f"1-{event_id}".encode(), []), SpendEvent(event_id, account, 1))


def batch(*event_ids: str, size: int = 0) -> Batch:
    return Batch([row(event_id) for event_id in event_ids], (), size)


def many(name: str, size: int = 0) -> Batch:
    return batch(*(f"{name}-{number}" for number in range(MANY)), size=size)


def ids(one: Batch) -> list[str]:
    return [readable.event.event_id for readable in one.readable]


class Ledgers:
    """Takes the batches of each lane. A lane whose gate is shut keeps its batch in hand; one with a fault raises it."""

    def __init__(self, count: int) -> None:
        self.taken: list[list[Batch]] = [[] for _ in range(count)]
        self.gates = [threading.Event() for _ in range(count)]
        self.faults: dict[int, BaseException] = {}
        self.open()

    def open(self) -> None:
        for gate in self.gates:
            gate.set()

    def shut(self) -> None:
        for gate in self.gates:
            gate.clear()

    def post(self, lane: int, one: Batch) -> None:
        self.taken[lane].append(one)
        self.gates[lane].wait()
        if lane in self.faults:
            raise self.faults.pop(lane)

    def event_ids(self, lane: int) -> list[str]:
        return [event_id for one in self.taken[lane] for event_id in ids(one)]

    def sizes(self) -> list[int]:
        return [one.events for lane in self.taken for one in lane]


@pytest.fixture
def ledgers() -> Ledgers:
    return Ledgers(2)


@pytest.fixture
def lanes(ledgers: Ledgers) -> Iterator[Lanes]:
    made = Lanes([lambda b: ledgers.post(0, b), lambda b: ledgers.post(1, b)], BATCH_MAX, bytes_max=1_000_000)
    yield made
    ledgers.open()
    assert made.close(5)


def busy(ledgers: Ledgers, lanes: Lanes) -> None:
    """Both lanes have a batch in hand and keep it."""
    ledgers.shut()
    lanes.offer([many("a"), many("b")])
    eventually(lambda: ledgers.sizes() == [MANY, MANY])


def test_each_lane_posts_its_own_in_order_and_at_the_same_time(ledgers: Ledgers, lanes: Lanes) -> None:
    busy(ledgers, lanes)
    for number in range(6):
        lanes.offer([many(f"a{number}"), batch(f"b{number}")])
    ledgers.open()
    assert lanes.wait_until_idle(10)

    for lane, name in enumerate("ab"):
        offered = [f"{name}-{number}" for number in range(MANY)]
        assert ledgers.event_ids(lane)[:MANY] == offered
    assert ledgers.event_ids(0) == [f"a{n}-{i}" for n in ["", *range(6)] for i in range(MANY)]
    assert ledgers.event_ids(1)[MANY:] == [f"b{number}" for number in range(6)]


def test_what_waits_becomes_one_batch_up_to_the_most_that_a_batch_has(ledgers: Ledgers, lanes: Lanes) -> None:
    busy(ledgers, lanes)
    for number in range(6):
        lanes.offer([many(f"a{number}"), batch()])
    ledgers.open()
    assert lanes.wait_until_idle(10)
    assert [one.events for one in ledgers.taken[0]] == [MANY, BATCH_MAX, 2 * MANY]


def test_few_events_are_posted_in_one_batch_for_all_lanes(ledgers: Ledgers, lanes: Lanes) -> None:
    ledgers.shut()
    lanes.offer([batch("a1"), batch("b1")])
    eventually(lambda: ledgers.sizes() == [2])
    lanes.offer([batch("a2"), batch("b2")])
    lanes.offer([many("a"), batch("b3")])
    assert not lanes.wait_until_idle(0.1)
    assert ledgers.sizes() == [2], "a lane began while another posted its events"
    ledgers.open()
    assert lanes.wait_until_idle(10)
    assert sum(ledgers.sizes()) == 2 + 2 + MANY + 1


def test_few_events_do_not_wait_long_for_a_lane_that_is_held_up(ledgers: Ledgers, lanes: Lanes) -> None:
    ledgers.gates[0].clear()
    lanes.offer([many("a"), many("b")])
    eventually(lambda: lanes.posted == 1)
    lanes.offer([batch("a1"), batch("b1")])
    eventually(lambda: "b1" in ledgers.event_ids(1))
    assert "a1" not in ledgers.event_ids(0)


def test_a_failure_is_told_when_nothing_is_in_flight_and_what_waited_is_gone(ledgers: Ledgers, lanes: Lanes) -> None:
    busy(ledgers, lanes)
    lanes.offer([many("c"), many("d")])
    ledgers.faults[0] = ValueError("of lane 0")
    ledgers.gates[0].set()
    assert not lanes.wait_until_idle(0.1), "the failure was told while another lane had a batch in hand"
    lanes.offer([many("e"), many("f")])
    assert not lanes.wait_for_room(1, 0.1)
    ledgers.open()
    with pytest.raises(ValueError, match="of lane 0"):
        lanes.wait_for_room(1, 10)
    assert ledgers.sizes() == [MANY, MANY]

    lanes.offer([batch("again"), batch()])
    assert lanes.wait_until_idle(10)
    assert sum(ledgers.sizes()) == 2 * MANY + 1


@pytest.mark.parametrize("fault", [MemoryError, SystemExit, KeyboardInterrupt])
def test_what_would_end_a_lane_s_thread_is_told_too(ledgers: Ledgers, lanes: Lanes, fault: type[BaseException]) -> None:
    ledgers.faults[0] = fault("of lane 0")
    lanes.offer([many("a"), batch()])
    with pytest.raises(fault, match="of lane 0"):
        lanes.wait_until_idle(10)
    lanes.offer([many("again"), batch()])
    assert lanes.wait_until_idle(10)


class TooMany(list[Readable]):
    """Rows of which no copy can be made."""

    def __iter__(self) -> Iterator[Readable]:
        raise MemoryError("of joining")


def test_a_lane_that_cannot_join_what_waits_for_it_says_so(ledgers: Ledgers, lanes: Lanes) -> None:
    lanes.offer([Batch(TooMany([row("a")]), (), 0), batch("b")])
    with pytest.raises(MemoryError, match="of joining"):
        lanes.wait_until_idle(10)
    lanes.offer([batch("again"), batch()])
    assert lanes.wait_until_idle(10)
    assert ledgers.sizes() == [1]


def test_no_more_is_in_flight_than_its_bound_however_slow_the_ledger(ledgers: Ledgers, lanes: Lanes) -> None:
    ledgers.shut()
    offered = 0
    while lanes.wait_for_room(2 * MANY, 0):
        lanes.offer([many("a"), many("b")])
        offered += 2 * MANY
    assert offered == BATCHES_PER_LANE * BATCH_MAX * 2
    ledgers.open()
    assert lanes.wait_for_room(2 * MANY, 10)


def test_bytes_in_flight_are_bounded_too(ledgers: Ledgers, lanes: Lanes) -> None:
    ledgers.shut()
    lanes.offer([batch("a", size=600_000), batch()])
    assert lanes.wait_for_room(1, 0)
    lanes.offer([batch("b", size=600_000), batch()])
    assert not lanes.wait_for_room(1, 0)
    ledgers.open()
    assert lanes.wait_for_room(1, 10)


def test_discarding_leaves_what_is_in_hand(ledgers: Ledgers, lanes: Lanes) -> None:
    busy(ledgers, lanes)
    lanes.offer([many("c"), many("d")])
    lanes.discard()
    ledgers.open()
    assert lanes.wait_until_idle(10)
    assert ledgers.sizes() == [MANY, MANY]


def test_closing_waits_for_what_is_in_hand_and_begins_nothing(ledgers: Ledgers, lanes: Lanes) -> None:
    busy(ledgers, lanes)
    lanes.offer([many("c"), many("d")])
    assert not lanes.close(0.1)
    ledgers.open()
    assert lanes.close(10)
    assert ledgers.sizes() == [MANY, MANY]


@given(st.lists(st.sampled_from([f"account-{number}" for number in range(20)])), st.integers(1, 5))
def test_parts_share_no_account_lose_nothing_and_keep_the_order(accounts: Sequence[str], lanes: int) -> None:
    rows = [row(str(number), account) for number, account in enumerate(accounts)]
    rubbish = [Quarantined("1-0", "bad_id", "", [])]
    whole = Batch(rows, rubbish, 1_001, put_aside=3)
    parts = parted(whole, lanes)

    assert len(parts) == lanes
    for account in set(accounts):
        holding = [part for part in parts if account in {one.event.account for one in part.readable}]
        assert len(holding) == 1
    assert all(list(part.readable) == sorted(part.readable, key=lambda one: int(one.event.event_id)) for part in parts)
    again = joined(parts)
    assert sorted(ids(again)) == sorted(ids(whole))
    assert (again.malformed, again.size, again.put_aside) == (rubbish, 1_001, 3)


def test_an_account_has_the_same_lane_in_every_process() -> None:
    parts = parted(Batch([row("1", "account-1"), row("2", "office"), row("3", "größer")], (), 0), 4)
    assert [ids(part) for part in parts] == [["1", "3"], [], ["2"], []]
