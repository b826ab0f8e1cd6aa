"""An evaluation and a settlement of the same account never wait for each other in a circle."""

from __future__ import annotations

from jobs.ledger.database import connect
from jobs.settle import lock_charge
from tests.charging.world import World


def test_an_account_can_be_evaluated_while_its_charge_is_being_settled(world: World) -> None:
    account_id = world.account(balance=400)
    charge_id = world.evaluate(account_id).charge_id
    assert charge_id is not None
    world.connection.execute("set lock_timeout = '2s'")
    # The settlement has the charge and wants the account; the evaluation has the account and names the charge.
    with connect(world.url) as settling, settling.transaction():
        lock_charge(settling, charge_id)
        assert world.evaluate(account_id).decision.verdict == "above_trigger"
