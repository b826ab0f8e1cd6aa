"""Schedulers as real processes: one leads, another takes over, and no job runs twice or never, whatever breaks."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from apscheduler.jobstores.memory import MemoryJobStore

from config.schedule import Job
from config.settings import Settings
from jobs.ledger.database import Connection, connect, database_now
from tests.support.processes import Processes, Running
from tests.support.seed import count
from tests.support.waiting import eventually
from worker.broker import NAMESPACE
from worker.embedded.redis import Redis
from worker.embedded.server import running
from worker.leader import APPLICATION
from worker.runs import JOBS
from worker.scheduler import Scheduler
from worker.timetable import SchedulerStalled, Timetable

pytestmark = pytest.mark.acceptance

SWEEP = Job("recharge_sweep", 3_600, "A sweep.")


@pytest.fixture
def ledger(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        yield connection


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


class Schedulers:
    """Starts schedulers on one database and one Redis."""

    def __init__(self, processes: Processes, database: str, redis_url: str) -> None:
        self._processes = processes
        self._environment = {
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "REFILL_LOG_FORMAT": "json",
            "REFILL_LEADER_RETRY_S": "1",
        }

    def start(self) -> Running:
        scheduler = self._processes.refill("scheduler", environment=self._environment)
        scheduler.wait_for_event("scheduler.started")
        return scheduler

    def lead(self) -> Running:
        scheduler = self.start()
        scheduler.wait_for_event("scheduler.elected")
        return scheduler


@pytest.fixture
def schedulers(processes: Processes, database: str, redis_url: str) -> Schedulers:
    return Schedulers(processes, database, redis_url)


def waiting(broker: redis.Redis, queue: str) -> str:
    """All that lies in one queue, as text."""
    return str(broker.hvals(f"{NAMESPACE}:{queue}.msgs"))


def contenders(ledger: Connection) -> int:
    return count(ledger, "select count(*) from pg_stat_activity where application_name = %s", [APPLICATION])


def test_every_job_is_triggered_as_soon_as_somebody_leads(schedulers: Schedulers, ledger: Connection) -> None:
    schedulers.lead()
    jobs = "select count(distinct job) from refill.job_slot where job <> 'leadership'"
    assert eventually(lambda: count(ledger, jobs) == len(JOBS))


def test_one_leads_and_another_takes_over_when_it_is_killed(schedulers: Schedulers, ledger: Connection) -> None:
    leader = schedulers.lead()
    standby = schedulers.start()
    eventually(lambda: contenders(ledger) == 2)
    assert not standby.events("scheduler.elected")
    leader.kill()
    standby.wait_for_event("scheduler.elected", timeout=15)
    assert count(ledger, "select count(*) from refill.job_slot where job = 'leadership'") == 2


def test_one_that_stops_in_order_hands_over_at_once(schedulers: Schedulers) -> None:
    leader = schedulers.lead()
    standby = schedulers.start()
    assert leader.stop() == 0
    standby.wait_for_event("scheduler.elected", timeout=10)
    assert "Traceback" not in leader.output


def test_a_leader_that_loses_its_session_leads_no_more_and_tries_again(
    schedulers: Schedulers, ledger: Connection
) -> None:
    leader = schedulers.lead()
    ledger.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", (APPLICATION,))
    leader.wait_for_event("scheduler.leadership_lost")
    assert eventually(lambda: len(leader.events("scheduler.elected")) == 2)


def test_a_leader_that_stands_still_is_replaced_and_learns_it(schedulers: Schedulers, ledger: Connection) -> None:
    leader = schedulers.lead()
    standby = schedulers.start()
    leader.signal(signal.SIGSTOP)
    stopped_at = database_now(ledger)
    standby.wait_for_event("scheduler.elected", timeout=15)
    assert database_now(ledger) - stopped_at < timedelta(seconds=10)
    leader.signal(signal.SIGCONT)
    leader.wait_for_event("scheduler.leadership_lost")
    assert len(leader.events("scheduler.elected")) == 1


def test_two_that_both_believe_to_lead_trigger_each_slot_once(
    database: str, redis_url: str, ledger: Connection, broker: redis.Redis
) -> None:
    settings = Settings(database_url=database, redis_url=redis_url)
    leaders = [Scheduler(settings), Scheduler(settings)]
    together = [threading.Thread(target=leader.trigger, args=[SWEEP]) for leader in leaders]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    for leader in leaders:
        leader.close()
    assert count(ledger, "select count(*) from refill.job_slot") == 1
    assert broker.llen(f"{NAMESPACE}:ledger") == 1


def test_what_postgres_says_becomes_a_poke_after_the_commit(
    schedulers: Schedulers, database: str, ledger: Connection, broker: redis.Redis
) -> None:
    schedulers.lead()
    eventually(lambda: "housekeeping" in waiting(broker, "ledger"))
    listening = "select count(*) from pg_stat_activity where application_name = 'refill listener' and query ~ 'listen'"
    eventually(lambda: count(ledger, listening) == 1)
    with connect(database) as upstream, upstream.transaction():
        upstream.execute("select pg_notify('refill_poke', 'evaluate 4711')")
        ledger.execute("select pg_notify('refill_poke', 'evaluate 4712')")
        eventually(lambda: "4712" in waiting(broker, "charges"))
        assert "4711" not in waiting(broker, "charges")
    eventually(lambda: "4711" in waiting(broker, "charges"))


def test_rubbish_on_the_channel_is_said_and_passed_over(
    schedulers: Schedulers, ledger: Connection, broker: redis.Redis
) -> None:
    leader = schedulers.lead()

    def said() -> bool:
        ledger.execute("select pg_notify('refill_poke', 'evaluate everything')")
        return bool(leader.events("poke.malformed"))

    eventually(said)
    ledger.execute("select pg_notify('refill_poke', 'evaluate 1')")
    eventually(lambda: "evaluate" in waiting(broker, "charges"))


def test_without_redis_pokes_are_dropped_with_one_line_and_flow_again_later(
    processes: Processes, database: str, ledger: Connection, tmp_path: Path
) -> None:
    server = Redis(tmp_path)
    with running(server):
        leader = Schedulers(processes, database, server.url).lead()
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            eventually(lambda: "housekeeping" in waiting(client, "ledger"))

    def poke() -> None:
        ledger.execute("select pg_notify('refill_poke', 'publish')")

    def is_lost() -> bool:
        poke()
        return bool(leader.events("dependency.lost"))

    eventually(is_lost)
    with running(server), redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.flushall()

        def is_regained() -> bool:
            poke()
            return "publish" in waiting(client, "ledger")

        eventually(is_regained, timeout=20)
        leader.wait_for_event("dependency.regained", dependency="redis")
        assert len(leader.events("dependency.lost")) == 1
        assert leader.stop() == 0


def test_without_its_surroundings_it_ends_with_a_code(processes: Processes, database: str) -> None:
    environment = {"DATABASE_URL": database, "REDIS_URL": "redis://127.0.0.1:1/0", "REFILL_LOG_FORMAT": "json"}
    scheduler = processes.refill("scheduler", environment=environment)
    assert scheduler.wait() == 1
    assert "redis_unavailable" in scheduler.output
    assert "Traceback" not in scheduler.output


class BreakingStore(MemoryJobStore):  # type: ignore[misc]
    """A job store that breaks while it is asked, which ends the scheduling thread."""

    def get_next_run_time(self) -> object:
        raise RuntimeError("the store is broken")


class StuckStore(MemoryJobStore):  # type: ignore[misc]
    """A job store that answers only when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def get_due_jobs(self, now: object) -> list[object]:
        self.let_go.wait(30)
        return []


def timetable(store: MemoryJobStore | None = None, silent_s_max: float = 20.0) -> Timetable:
    return Timetable([SWEEP], lambda job: None, lambda job: timedelta(seconds=5), store, silent_s_max)


def fault_of(watched: Timetable) -> str | None:
    try:
        watched.check()
    except SchedulerStalled as error:
        return str(error)
    return None


def test_a_living_timetable_is_left_alone() -> None:
    watched = timetable()
    watched.start()
    assert fault_of(watched) is None
    watched.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_scheduling_thread_that_died_is_noticed() -> None:
    watched = timetable(BreakingStore())
    watched.start()
    assert eventually(lambda: fault_of(watched)) == "The scheduling thread is dead."


def test_a_scheduling_thread_that_is_stuck_is_noticed() -> None:
    store = StuckStore()
    watched = timetable(store, silent_s_max=0.2)
    watched.start()
    try:
        assert "has not ticked" in str(eventually(lambda: fault_of(watched)))
    finally:
        store.let_go.set()
        watched.stop()


BROKEN_SCHEDULER = """
import worker.timetable
from apscheduler.jobstores.memory import MemoryJobStore

class BreakingStore(MemoryJobStore):
    def get_next_run_time(self):
        raise RuntimeError("the store is broken")

worker.timetable.MemoryJobStore = BreakingStore
from worker.cli.scheduler import app
app()
"""


def test_a_process_whose_scheduling_thread_died_ends_itself(
    processes: Processes, database: str, redis_url: str
) -> None:
    environment = {"DATABASE_URL": database, "REDIS_URL": redis_url, "REFILL_LOG_FORMAT": "json"}
    scheduler = processes.start([sys.executable, "-c", BROKEN_SCHEDULER], environment)
    assert scheduler.wait() == 1
    assert scheduler.events("scheduler.stalled")
