"""Several batches in flight, of one intake and of two: nothing lost, nothing twice, and every account in its order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
import pytest

from tests.acceptance.spending import Fields, Spending, numbered
from tests.support.processes import Processes
from tests.support.waiting import eventually
from worker.lanes import BATCHES_PER_LANE
from worker.stream import GROUP, STREAM

pytestmark = pytest.mark.acceptance

ACCOUNTS = [f"camp-{number}" for number in range(20)]
LANES = 2
BATCH_MAX = 100
IN_FLIGHT_MAX = BATCHES_PER_LANE * LANES * BATCH_MAX
SMALL = {"REFILL_INTAKE_LANES": str(LANES), "REFILL_INTAKE_BATCH_MAX": str(BATCH_MAX)}


@pytest.fixture
def spending(processes: Processes, database: str, redis_url: str) -> Spending:
    made = Spending(processes, database, redis_url)
    made.accounts(*ACCOUNTS)
    return made


def send_at_once(spending: Spending, events: Sequence[Fields]) -> list[str]:
    """Adds the entries so that nobody sees some of them without the others; their stream ids."""
    with spending.stream.pipeline(transaction=True) as pipeline:
        for one in events:
            pipeline.xadd(STREAM, dict(one))
        return [stream_id.decode() for stream_id in pipeline.execute()]


def backends(spending: Spending, count: int) -> list[int]:
    """The server processes that post for intakes, when so many of them are there."""

    def found() -> list[int]:
        rows = spending.rows(
            "select pid from pg_stat_activity where application_name = 'refill intake' and datname = current_database()"
        )
        return [pid for (pid,) in rows] if len(rows) == count else []

    return eventually(found, timeout=30)


@contextmanager
def standing_still(pids: Sequence[int]) -> Iterator[None]:
    """These server processes do nothing at all."""
    try:
        for pid in pids:
            psutil.Process(pid).suspend()
        yield
    finally:
        for pid in pids:
            psutil.Process(pid).resume()


def in_hand(spending: Spending) -> list[int]:
    """How many entries each consumer was given and has not acknowledged."""
    consumers: Any = spending.stream.xinfo_consumers(STREAM, GROUP)
    return [consumer["pending"] for consumer in consumers]


def posted_in_order(spending: Spending, account: str) -> list[str]:
    """The events that the account has paid for, first to last."""
    rows = spending.rows(
        "select e.event_id from refill.entry e join refill.account a on a.account_id = e.from_side"
        " where a.name = %s and e.kind = 'spend' order by e.entry_id",
        account,
    )
    return [event_id for (event_id,) in rows]


def prove(spending: Spending, events: int) -> None:
    """So many events of 1 credit each, once each."""
    assert list(spending.outcomes().values()) == ["accepted"] * events
    assert sum(spending.balance(name) for name in ACCOUNTS) == len(ACCOUNTS) * 1_000_000 - events
    spending.prove()


def prove_order(spending: Spending, sent: Sequence[Any]) -> None:
    """Every account paid for its events in the order in which they were sent."""
    for name in ACCOUNTS:
        assert posted_in_order(spending, name) == [one["id"] for one in sent if one["account"] == name]


def test_replies_of_redis_are_read_by_the_fast_parser(spending: Spending) -> None:
    """hiredis is worth a third of the speed, and redis-py does without it in silence."""
    started = spending.intake(REFILL_INTAKE_LANES="3").wait_for_event("intake.started")
    assert (started["lanes"], started["parser"]) == (3, "hiredis")


def test_a_postgres_that_stands_still_leaves_the_backlog_in_the_stream(spending: Spending) -> None:
    intake = spending.intake(**SMALL)
    events = numbered(3 * IN_FLIGHT_MAX, ACCOUNTS)
    with standing_still(backends(spending, LANES)):
        send_at_once(spending, events)
        eventually(lambda: in_hand(spending) == [IN_FLIGHT_MAX])
    spending.drained()

    assert intake.stop() == 0
    prove(spending, len(events))
    prove_order(spending, events)


def test_what_a_living_intake_has_in_hand_is_not_claimed_however_long_it_takes(spending: Spending) -> None:
    slow = spending.intake(**SMALL)
    pids = backends(spending, LANES)
    with standing_still(pids):
        send_at_once(spending, numbered(10, ACCOUNTS))
        eventually(lambda: in_hand(spending) == [10])
        other = spending.intake(**SMALL)
        eventually(lambda: age_ms(spending) > 3_000, timeout=30)
    spending.drained()
    assert other.events("spend.entries_claimed") == slow.events("spend.entries_claimed") == []
    prove(spending, 10)


def age_ms(spending: Spending) -> int:
    """How long ago the first pending entry was sent, by the clock that made its id."""
    first: Any = spending.stream.xpending(STREAM, GROUP)
    seconds, microseconds = spending.stream.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000 - int(first["min"].split(b"-")[0])


def test_two_intakes_share_accounts_and_each_posts_its_part_in_order(spending: Spending) -> None:
    for _ in range(2):
        spending.intake(**SMALL)
    events = numbered(4 * IN_FLIGHT_MAX, ACCOUNTS)
    with standing_still(backends(spending, 2 * LANES)):
        ids = send_at_once(spending, events)
        eventually(lambda: in_hand(spending) == [IN_FLIGHT_MAX, IN_FLIGHT_MAX])
        parts = given_to(spending, dict(zip(ids, [str(one["id"]) for one in events], strict=True)))
    spending.drained()

    prove(spending, len(events))
    for name in ACCOUNTS:
        order = posted_in_order(spending, name)
        for part in parts:
            assert [one for one in order if one in set(part)] == [one for one in part if one in set(order)]


def given_to(spending: Spending, event_ids: dict[str, str]) -> list[list[str]]:
    """The events that each consumer has in hand, in the order of the stream."""
    parts: dict[bytes, list[str]] = {}
    pending: Any = spending.stream.xpending_range(STREAM, GROUP, "-", "+", 10_000)
    for entry in pending:
        parts.setdefault(entry["consumer"], []).append(event_ids[entry["message_id"].decode()])
    return list(parts.values())


def test_two_intakes_with_a_large_backlog_and_other_numbers_of_lanes(spending: Spending) -> None:
    events = numbered(12_000, ACCOUNTS)
    spending.send(*events)
    for lanes in ("2", "3"):
        spending.intake(REFILL_INTAKE_LANES=lanes)
    spending.drained()
    prove(spending, len(events))


def test_a_lane_that_loses_its_connection_in_the_midst_of_a_batch_loses_nothing_else(spending: Spending) -> None:
    intake = spending.intake(**SMALL)
    events = numbered(3 * IN_FLIGHT_MAX, ACCOUNTS)
    for step in range(3):
        with psycopg.connect(spending.database_url) as upstream:
            upstream.execute("select from refill.account where name = %s for update", (ACCOUNTS[step],))
            spending.send(*events[step * IN_FLIGHT_MAX : (step + 1) * IN_FLIGHT_MAX])
            eventually(lambda: end_a_backend_that_waits(spending))
            eventually(lambda: len(intake.events("dependency.lost")) == step + 1)  # noqa: B023  called at once
        spending.drained()
        eventually(lambda: len(intake.events("dependency.regained")) == step + 1)  # noqa: B023  called at once

    assert intake.stop() == 0
    assert "Traceback" not in intake.output
    prove(spending, len(events))
    prove_order(spending, events)


def end_a_backend_that_waits(spending: Spending) -> list[tuple[Any, ...]]:
    """Ends one of the server processes that post, while it waits for an account."""
    return spending.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'refill intake'"
        " and datname = current_database() and wait_event_type = 'Lock' limit 1"
    )


def test_an_intake_killed_with_batches_in_flight_is_taken_over(spending: Spending) -> None:
    events = numbered(2 * IN_FLIGHT_MAX, ACCOUNTS)
    doomed = spending.intake(**SMALL)
    with standing_still(backends(spending, LANES)):
        send_at_once(spending, events)
        eventually(lambda: in_hand(spending) == [IN_FLIGHT_MAX])
        doomed.kill()
    other = spending.intake(**SMALL)
    spending.drained()

    other.wait_for_event("spend.entries_claimed")
    prove(spending, len(events))


def test_a_locked_account_holds_up_neither_the_other_lane_nor_its_own(spending: Spending) -> None:
    intake = spending.intake(**SMALL)
    events = numbered(2_000, ACCOUNTS)
    with psycopg.connect(spending.database_url) as upstream:
        upstream.execute("select from refill.account where name = %s for update", (ACCOUNTS[0],))
        spending.send(*events[:1_000])
        intake.wait_for_event("spend.accounts_locked", accounts=ACCOUNTS[:1])
        spending.send(*events[1_000:])
        eventually(lambda: len(spending.outcomes()) == 1_900, timeout=60)
        assert posted_in_order(spending, ACCOUNTS[0]) == []
    spending.drained()

    prove(spending, len(events))
    prove_order(spending, events)


def test_stopping_posts_what_was_read(spending: Spending) -> None:
    spending.send(*numbered(6_000, ACCOUNTS))
    intake = spending.intake(**SMALL)
    eventually(lambda: len(spending.outcomes()) > 500, timeout=30)
    assert intake.stop() == 0
    assert in_hand(spending) == [0]
    assert intake.events("intake.left_pending") == []


def test_stopping_is_quick_even_where_postgres_stands_still(spending: Spending) -> None:
    intake = spending.intake(**SMALL)
    with standing_still(backends(spending, LANES)):
        send_at_once(spending, numbered(IN_FLIGHT_MAX, ACCOUNTS))
        eventually(lambda: in_hand(spending) == [IN_FLIGHT_MAX])
        assert intake.stop(timeout=10) == 0  # after that, whoever runs services mostly resorts to force
    assert intake.wait_for_event("intake.left_pending")
    spending.intake(**SMALL)
    spending.drained()
    prove(spending, IN_FLIGHT_MAX)
