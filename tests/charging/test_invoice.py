"""Invoices: numbered without gaps per program and year, and saying what was true when the money was asked for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest

from jobs.gateway.stripe import Intent
from jobs.ledger.database import connect
from jobs.settle import settle
from tests.charging.steps import confirming, paid
from tests.charging.world import World
from tests.support.sandbox import Sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    return shared_sandbox


def numbers(world: World) -> list[str]:
    rows = world.connection.execute("select invoice_number from refill.invoice order by year, number")
    return [number for (number,) in rows]


def test_a_year_of_invoices_begins_at_midnight_of_the_programs_time_zone(world: World) -> None:
    next_year = world.now().year + 1
    anna, bert = confirming(world, "ok:1", "anna"), confirming(world, "ok:2", "bert")
    # Los Angeles is 8 hours behind UTC in January.
    settle(world.connection, anna, paid(world, anna), datetime(next_year, 1, 1, 7, 59, tzinfo=UTC))
    settle(world.connection, bert, paid(world, bert), datetime(next_year, 1, 1, 8, 0, tzinfo=UTC))
    assert numbers(world) == [f"POINTS-{next_year - 1}-000001", f"POINTS-{next_year}-000001"]


def test_each_program_counts_its_own_invoices(world: World) -> None:
    year = world.now().year
    for number, program in enumerate(["points", "mail", "points"]):
        charge_id = confirming(world, f"ok:{number}", f"anna-{number}", program=program)
        settle(world.connection, charge_id, paid(world, charge_id), datetime(year, 6, 1, tzinfo=UTC))
    assert sorted(numbers(world)) == [f"MAIL-{year}-000001", f"POINTS-{year}-000001", f"POINTS-{year}-000002"]


def test_settlements_at_the_same_time_leave_no_gap_even_where_some_are_undone(world: World) -> None:
    charges = [confirming(world, f"ok:{n}", f"anna-{n}") for n in range(6)]
    answers = [paid(world, charge_id) for charge_id in charges]
    now, barrier = world.now(), Barrier(len(charges))

    def work(charge_id: int, answer: Intent, is_undone: bool) -> str:
        with connect(world.url) as connection:
            barrier.wait(timeout=20)
            with connection.transaction(force_rollback=is_undone):
                return settle(connection, charge_id, answer, now)

    with ThreadPoolExecutor(len(charges)) as pool:
        ends = list(pool.map(work, charges, answers, [n % 3 == 0 for n in range(6)]))

    assert ends == ["succeeded"] * 6
    assert [number[-6:] for number in numbers(world)] == ["000001", "000002", "000003", "000004"]
    world.assert_books_are_clean()


def test_an_invoice_says_the_tax_that_was_computed_though_the_program_has_another_now(world: World) -> None:
    charge_id = confirming(world, program="sms")
    world.connection.execute(
        """update refill.program set terms = jsonb_set(terms::jsonb, '{tax,rate}', '"20"') where name = 'sms'"""
    )
    settle(world.connection, charge_id, paid(world, charge_id), world.now())

    assert world.one("select document -> 'tax' from refill.invoice") == {"name": "GST", "rate": "10"}
    assert world.one("select tax_minor * 10 = net_minor from refill.invoice")
