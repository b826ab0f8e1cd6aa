"""Charges that are brought to one step by hand, for tests of what follows it."""

from __future__ import annotations

from typing import Any

from jobs.gateway.stripe import Intent, StripeGateway
from jobs.ledger.database import fetch_one
from tests.charging.world import World


def reserved(world: World, card: str = "ok", name: str = "anna", **settings: Any) -> int:
    """A charge that nothing was sent for."""
    account_id = world.account(name, card, **settings)
    world.spend(name, 600, f"{name}-1")
    charge_id = world.evaluate(account_id).charge_id
    assert charge_id is not None
    return charge_id


def created(world: World, card: str = "ok") -> tuple[int, str]:
    """A charge with its intent at the processor, unconfirmed; the ids of both."""
    charge_id = reserved(world, card)
    request, attempt_id = fetch_one(
        world.connection, "select request, attempt_id::text from refill.attempt where charge_id = %s", (charge_id,)
    )
    intent_id = world.gateway.create(request, f"{attempt_id}:create").intent_id
    world.connection.execute(
        "update refill.charge set state = 'created', payment_intent = %s where charge_id = %s", (intent_id, charge_id)
    )
    return charge_id, intent_id


def confirming(world: World, card: str = "ok", name: str = "anna", **settings: Any) -> int:
    """A charge that waits for the answer to its confirmation; its intent exists in the ledger only."""
    charge_id = reserved(world, card, name, **settings)
    world.connection.execute(
        "update refill.charge set state = 'confirming', payment_intent = 'pi_' || charge_id, first_sent_at = now()"
        " where charge_id = %s",
        (charge_id,),
    )
    world.connection.execute(
        "update refill.attempt set state = 'sent', sent_at = now() where charge_id = %s", (charge_id,)
    )
    return charge_id


def paid(world: World, charge_id: int) -> Intent:
    """What the processor shows of a `confirming` charge once it took the money."""
    intent_id, amount, currency = fetch_one(
        world.connection,
        "select payment_intent, amount_minor, currency from refill.charge where charge_id = %s",
        (charge_id,),
    )
    return Intent(intent_id, "succeeded", amount, currency)


def confirmed(world: World, intent_id: str) -> int:
    """How often the processor really worked on a confirmation of this intent."""
    return len([r for r in world.sandbox.requests(f"{intent_id}/confirm") if not r["replayed"]])


def account_id(world: World, name: str = "anna") -> int:
    return int(world.one("select account_id from refill.account where name = %s", name))


class BeforeCancel(StripeGateway):
    """The real gateway, where a person at the processor is faster than our cancel."""

    def __init__(self, world: World) -> None:
        super().__init__(world.sandbox.key, world.sandbox.url, 5.0)
        self._person = world.sandbox.client().v1.payment_intents

    def cancel(self, intent_id: str, key: str) -> Intent:
        self._person.cancel(intent_id)
        return super().cancel(intent_id, key)
