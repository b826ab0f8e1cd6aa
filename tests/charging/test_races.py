"""Two at once: each test lets both arrive at the same lock before either goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import LiteralString, TypeVar

import pytest

from jobs.ledger.database import Connection, connect
from jobs.recharge import Evaluation, due_accounts, evaluate
from jobs.settle import settle
from tests.charging.steps import account_id, confirming, paid
from tests.charging.world import LIMITS, World
from tests.support.sandbox import Sandbox
from tests.support.waiting import eventually

Outcome = TypeVar("Outcome")


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    return shared_sandbox


@contextmanager
def all_waiting(
    world: World, lock: LiteralString, params: tuple[object, ...], work: list[Callable[[Connection], Outcome]]
) -> Iterator[list[Future[Outcome]]]:
    """Holds a lock until all of `work`, each on a connection of its own, waits; lets go at the end of the block."""

    def run(what: Callable[[Connection], Outcome]) -> Outcome:
        with connect(world.url) as connection:
            return what(connection)

    def all_wait() -> bool:
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return bool(world.one(waiting) == len(work))

    with ThreadPoolExecutor(len(work)) as pool, connect(world.url) as holder, holder.transaction():
        holder.execute(lock, params)
        futures = [pool.submit(run, what) for what in work]
        eventually(all_wait)
        yield futures


def test_accounts_with_one_card_that_are_evaluated_at_once_reserve_one_attempt(world: World) -> None:
    accounts = [world.account(name, balance=400) for name in ("anna", "bert", "cleo", "dora")]
    work: list[Callable[[Connection], Evaluation]] = [
        lambda connection, one=one: evaluate(connection, one, LIMITS)  # type: ignore[misc]
        for one in accounts
    ]
    with all_waiting(world, "select refill.lock_accounts(%s)", (accounts,), work) as futures:
        pass

    verdicts = sorted(future.result().decision.verdict for future in futures)
    assert verdicts == ["card_cooling", "card_cooling", "card_cooling", "recharge"]
    assert world.one("select count(*) from refill.attempt") == 1


def test_a_charge_that_two_settle_at_once_is_granted_once(world: World) -> None:
    charge_id = confirming(world)
    answer, now = paid(world, charge_id), world.now()

    def work(connection: Connection) -> str:
        return settle(connection, charge_id, answer, now)

    with all_waiting(world, "select refill.lock_accounts(%s)", ([account_id(world)],), [work, work]) as futures:
        pass

    assert [future.result() for future in futures] == ["succeeded", "succeeded"]
    assert world.balance("anna") == 1_400
    assert world.one("select count(*) from refill.invoice") == 1
    world.assert_books_are_clean()


def test_a_card_that_is_replaced_while_it_is_waited_for_is_not_charged(world: World) -> None:
    anna = world.account()
    world.spend("anna", 600, "e1")
    world.connection.execute("update refill.watch set due_at = 'infinity'")
    fingerprint = world.one("select fingerprint from refill.card")
    lock: LiteralString = "select pg_advisory_xact_lock(hashtextextended(%s, 7355610))"

    with all_waiting(world, lock, (fingerprint,), [lambda connection: evaluate(connection, anna, LIMITS)]) as futures:
        world.connection.execute("update refill.card set removed_at = now()")
        world.save_card(anna, "ok:another")

    assert futures[0].result().charge_id is None
    assert world.one("select count(*) from refill.charge") == 0
    assert due_accounts(world.connection) == [anna]
    world.evaluate(anna)
    assert world.one("select fingerprint from refill.charge") != fingerprint
