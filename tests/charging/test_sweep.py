"""The recharge sweep over several accounts at once."""

from __future__ import annotations

from pathlib import Path

from jobs.ledger.database import connect
from jobs.mailer import DirectoryMailer
from jobs.notify import Post
from jobs.recharge import due_accounts
from tests.charging.world import LIMITS, World
from worker.outside import Outside
from worker.runs import Run, recharge_sweep
from worker.stream import open_redis


def test_a_charge_that_is_reserved_is_driven_before_the_next_account_is_looked_at(world: World, tmp_path: Path) -> None:
    for name in ("anna", "bert"):
        world.account(name, f"ok:{name}")
        world.spend(name, 600, f"{name}-1")
    reserved_by_then = []

    def drive(charge_id: int) -> None:
        reserved_by_then.append(world.one("select count(*) from refill.charge"))
        world.advance(charge_id)

    post = Post(DirectoryMailer(tmp_path), "refill@localhost")
    outside = Outside(world.gateway, LIMITS, post, open_redis("redis://127.0.0.1:1/0"))
    assert recharge_sweep(Run(world.connection, outside, drive)) == {"done": 2, "failed": 0, "charges": 2}
    assert reserved_by_then == [1, 2]
    assert world.confirmations() == 2
    world.assert_books_are_clean()


def test_an_account_that_somebody_holds_keeps_no_other_waiting(world: World) -> None:
    held, free = world.account("anna"), world.account("bert")
    for name in ("anna", "bert"):
        world.spend(name, 600, f"{name}-1")
    with connect(world.url) as upstream, upstream.transaction():
        upstream.execute("select from refill.account where account_id = %s for no key update", (held,))
        assert due_accounts(world.connection, limit=1) == [free]
    assert due_accounts(world.connection) == [held, free]
