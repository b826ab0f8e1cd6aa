"""Spend events through a real intake, a real Redis and a real Postgres: once each, whatever breaks in between."""

from __future__ import annotations

import base64
import shutil
import signal
import time
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.spending import Spending, event, numbered
from tests.support.databases import database_url, make_database
from tests.support.processes import Processes
from tests.support.waiting import eventually
from worker.embedded.postgres import Postgres
from worker.embedded.redis import Redis
from worker.embedded.server import running
from worker.stream import GROUP, STREAM

pytestmark = pytest.mark.acceptance


@pytest.fixture
def spending(processes: Processes, database: str, redis_url: str) -> Spending:
    return Spending(processes, database, redis_url)


def test_events_sent_before_and_after_the_start_are_posted(spending: Spending) -> None:
    spending.accounts("camp", credit=100)
    spending.send(event("before", amount=30, ref="job-1", memo="postcards", actor="bert", at="2026-01-02T03:04:05Z"))
    spending.intake()
    spending.send(event("after", amount=80))
    spending.settled("before", "after")

    assert spending.outcomes() == {"before": "accepted", "after": "insufficient_credit"}
    assert spending.balance("camp") == 70
    assert spending.rows("select ref, memo, actor from refill.entry_history where event_id = 'before'") == [
        ("job-1", "postcards", "bert")
    ]
    assert spending.rows("select shortfall from refill.spend_outcome where event_id = 'after'") == [(10,)]
    spending.prove()


def test_a_duplicate_is_posted_once_in_one_batch_and_across_batches(spending: Spending) -> None:
    spending.accounts("camp", credit=100)
    spending.send(*[event("same", amount=40)] * 3)
    spending.intake()
    spending.drained()
    spending.send(event("same", amount=40), event("last", amount=60))
    spending.drained()

    assert spending.outcomes() == {"same": "accepted", "last": "accepted"}
    assert spending.balance("camp") == 0
    assert spending.quarantined() == {}
    spending.prove()


def test_rubbish_goes_to_quarantine_as_it_came_and_blocks_nothing(spending: Spending) -> None:
    spending.accounts("camp")
    rubbish = spending.send(
        {"id": "r-1", "account": "camp", "amount": "12.5"},
        {"account": "camp", "amount": 5},
        {"id": "x" * 65, "account": "camp", "amount": 5},
        {"id": b"\xff\xfe", "account": "camp", "amount": 5},
        {"id": "nul\0", "account": "camp", "amount": 5},
        {"id": "r-6", "account": "camp", "amount": 10**30},
    )
    command = ["XADD", STREAM, "*", "id", "r-7", "amount", 1, "amount", 2, "account", "camp"]
    repeated = spending.stream.execute_command(*command)  # type: ignore[no-untyped-call]
    spending.send(event("good"), event("unknown", account="nobody"))
    spending.intake()
    spending.settled("good", "unknown")
    spending.drained()

    assert spending.outcomes() == {"good": "accepted", "unknown": "unknown_account"}
    reasons = ["bad_amount", "missing_field", "bad_id", "not_utf8", "nul_byte", "bad_amount", "repeated_field"]
    assert spending.quarantined() == dict(zip([*rubbish, repeated.decode()], reasons, strict=True))
    kept = dict(spending.rows("select stream_id, fields from refill.quarantine"))
    assert kept[rubbish[0]][2] == {"name": "amount", "value": "12.5"}
    assert kept[rubbish[3]][0] == {"name": "id", "value_base64": base64.b64encode(b"\xff\xfe").decode()}
    assert [field["value"] for field in kept[repeated.decode()] if field["name"] == "amount"] == ["1", "2"]


def test_the_same_id_with_other_content_is_a_conflict_and_posts_nothing(spending: Spending) -> None:
    spending.accounts("camp", "other", credit=100)
    spending.intake()
    spending.send(event("one", amount=10))
    spending.drained()
    conflicting = spending.send(event("one", amount=11), event("one", account="other", amount=10))
    spending.drained()

    assert spending.quarantined() == dict.fromkeys(conflicting, "conflict")
    assert (spending.balance("camp"), spending.balance("other")) == (90, 100)
    spending.prove()


def test_a_row_that_the_database_refuses_is_found_and_the_others_are_posted(spending: Spending) -> None:
    spending.accounts("camp")
    with psycopg.connect(spending.database_url, autocommit=True) as connection:
        connection.execute("alter table refill.spend_event add check (memo <> 'poison')")
    sent = spending.send(*numbered(40, ["camp"], "a"), event("bad", memo="poison"), *numbered(40, ["camp"], "b"))
    spending.intake()
    spending.drained()

    assert spending.quarantined() == {sent[40]: "refused_by_database"}
    assert len(spending.outcomes()) == 80
    assert spending.balance("camp") == 1_000_000 - 80
    spending.prove()


def test_events_of_an_account_are_judged_in_the_order_of_arrival(spending: Spending) -> None:
    spending.accounts("camp", credit=100)
    spending.send(event("1", amount=60), event("2", amount=50), event("3", amount=40), event("4", amount=1))
    spending.intake()
    spending.drained()

    outcomes = spending.rows("select outcome, balance_after from refill.spend_outcome order by event_id")
    assert outcomes == [("accepted", 40), ("insufficient_credit", 40), ("accepted", 0), ("insufficient_credit", 0)]


def test_a_killed_intakes_batch_is_claimed_by_another_and_posted_once(spending: Spending) -> None:
    spending.accounts("camp", "busy")
    with psycopg.connect(spending.database_url) as upstream:
        upstream.execute("select from refill.account where name = 'busy' for update")
        spending.send(event("1"), event("2", account="busy"))
        first = spending.intake()
        eventually(lambda: spending.pending() == 2)
        first.kill()

    second = spending.intake()
    spending.settled("1", "2")
    second.wait_for_event("spend.entries_claimed", count=2)
    spending.drained()
    spending.prove()


def test_killing_intakes_at_random_moments_loses_and_doubles_nothing(spending: Spending) -> None:
    names = [f"camp-{number}" for number in range(50)]
    spending.accounts(*names)
    events = numbered(6_000, names)
    spending.send(*events[:3_000])
    for survivors in range(3):
        doomed = spending.intake(REFILL_INTAKE_BATCH_MAX="100")
        eventually(lambda: len(spending.outcomes()) > 600 * (survivors + 1), timeout=30)  # noqa: B023  called at once
        doomed.kill()
    spending.send(*events[3_000:])
    spending.intake()
    spending.drained()

    assert list(spending.outcomes().values()) == ["accepted"] * 6_000
    assert sum(spending.balance(name) for name in names) == 50 * 1_000_000 - 6_000
    spending.prove()


def test_an_account_that_upstream_keeps_locked_holds_up_only_its_own_events(spending: Spending) -> None:
    spending.accounts("camp", "busy", credit=100)
    intake = spending.intake()
    with psycopg.connect(spending.database_url) as upstream:
        upstream.execute("select * from refill.spend('busy', 10, 'upstreams-own')")
        spending.send(event("busy-1", account="busy", amount=60), event("camp-1"))
        intake.wait_for_event("spend.accounts_locked", accounts=["busy"])
        spending.send(event("busy-2", account="busy", amount=60), event("camp-2"))
        spending.settled("camp-1", "camp-2")
        assert not {"busy-1", "busy-2"} & spending.outcomes().keys()
        upstream.commit()
    spending.settled("busy-1", "busy-2")
    spending.drained()

    outcomes = spending.outcomes()
    assert (outcomes["busy-1"], outcomes["busy-2"]) == ("accepted", "insufficient_credit")
    spending.prove()


def test_a_flushed_redis_gets_its_group_back_and_goes_on(spending: Spending) -> None:
    spending.accounts("camp")
    intake = spending.intake()
    spending.send(event("1"))
    spending.settled("1")
    spending.stream.flushall()
    spending.send(event("2"))
    spending.settled("2")

    assert intake.events("dependency.lost") == []
    assert intake.stop() == 0


def test_a_redis_that_is_lost_and_comes_back_empty_is_waited_for(
    processes: Processes, database: str, tmp_path: Path
) -> None:
    server = Redis(tmp_path)
    with running(server):
        spending = Spending(processes, database, server.url)
        spending.accounts("camp")
        intake = spending.intake()
        spending.send(event("1"))
        spending.settled("1")
    intake.wait_for_event("dependency.lost", dependency="redis")
    shutil.rmtree(tmp_path / "redis")
    with running(server):
        spending = Spending(processes, database, server.url)
        spending.send(event("2"))
        spending.settled("2")
        intake.wait_for_event("dependency.regained", dependency="redis")
        assert len(intake.events("dependency.lost")) <= 3
        assert intake.stop() == 0
    assert "Traceback" not in intake.output


def test_a_postgres_that_is_restarted_is_waited_for(processes: Processes, redis_url: str, tmp_path: Path) -> None:
    server = Postgres(tmp_path, shared_buffers="16MB", configuration={"fsync": "off"})
    with running(server):
        url = server.url
        processes.refill("migrate", environment={"DATABASE_URL": url}).wait()
        spending = Spending(processes, url, redis_url)
        spending.accounts("camp")
        intake = spending.intake()
        spending.send(event("1"))
        spending.settled("1")
    spending.send(event("2"), {"id": "rubbish"})
    intake.wait_for_event("dependency.lost", dependency="postgres")
    with running(server):
        spending.settled("1", "2")
        spending.drained()
        assert list(spending.quarantined().values()) == ["missing_field"]
        assert intake.stop() == 0
        spending.prove()
    assert "Traceback" not in intake.output


def test_stopping_is_quick_and_in_order(spending: Spending) -> None:
    intake = spending.intake(REFILL_INTAKE_BLOCK_MS="60000")
    began = time.monotonic()
    intake.signal(signal.SIGTERM)
    assert intake.wait() == 0
    assert time.monotonic() - began < 3
    assert intake.events("intake.stopped")


def test_entries_that_somebody_trimmed_away_are_reported_and_let_go(spending: Spending) -> None:
    spending.accounts("camp")
    spending.stream.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    (gone, _) = spending.send(event("gone"), event("here"))
    spending.stream.xreadgroup(GROUP, "a-dead-consumer", {STREAM: ">"}, count=2)
    spending.stream.xdel(STREAM, gone)
    eventually(lambda: spending.stream.xpending_range(STREAM, GROUP, "-", "+", 1, idle=1_000))
    intake = spending.intake()
    spending.settled("here")
    spending.drained()

    assert intake.wait_for_event("spend.entries_lost")["stream_ids"] == [gone]


def test_a_field_of_the_future_is_named_once(spending: Spending) -> None:
    spending.accounts("camp")
    intake = spending.intake()
    for number in range(3):
        spending.send(event(f"{number}", trace_id="abc"))
        spending.settled(f"{number}")
    assert [line["field"] for line in intake.events("spend.field_ignored")] == ["trace_id"]


def test_a_database_that_answers_nothing_ends_the_start_with_its_code(processes: Processes, redis_url: str) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    intake = processes.refill("intake", environment={"DATABASE_URL": nowhere, "REDIS_URL": redis_url})
    assert intake.wait() == 1
    assert "database_unavailable" in intake.output
    assert "Traceback" not in intake.output


def test_a_database_without_the_schema_ends_the_start_and_names_the_cure(
    processes: Processes, postgres_url: str, redis_url: str
) -> None:
    name = f"bare_{time.monotonic_ns()}"
    make_database(postgres_url, name)
    environment = {"DATABASE_URL": database_url(postgres_url, name), "REDIS_URL": redis_url}
    intake = processes.refill("intake", environment=environment)
    assert intake.wait() == 2
    assert "refill migrate" in intake.output


def test_a_wrong_setting_ends_the_start(processes: Processes) -> None:
    intake = processes.refill("intake", environment={"REFILL_INTAKE_BATCH_MAX": "many"})
    assert intake.wait() == 2
    assert "REFILL_INTAKE_BATCH_MAX" in intake.output
