"""From a crossing to granted credit: one decision, one charge, one lot, one invoice."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

from jobs.ledger.database import connect
from jobs.recharge import due_accounts, evaluate
from tests.charging.world import LIMITS, World
from tests.support.seed import grant


def test_a_crossing_is_charged_once_granted_once_and_invoiced_once(world: World) -> None:
    anna = world.account()
    assert world.spend("anna", 600, "e1") == "accepted"

    assert due_accounts(world.connection) == [anna]
    assert world.recharge(anna) == "succeeded"

    assert world.balance("anna") == 1_400
    history = world.connection.execute(
        "select reason, state, credits, amount, currency, attempts, invoice_number from refill.charge_history"
    ).fetchall()
    year = world.now().year
    assert history == [("recharge", "succeeded", 1_000, 1_000, "USD", 1, f"POINTS-{year}-000001")]
    assert "recharge_succeeded" in world.messages("anna")
    assert world.events("anna")[-2:] == ["recharge.opened", "recharge.succeeded"]
    assert world.confirmations() == 1
    world.assert_books_are_clean()


def test_an_account_above_its_trigger_leaves_the_sweep(world: World) -> None:
    anna = world.account()
    world.spend("anna", 600, "e1")
    world.recharge(anna)

    assert world.evaluate(anna).decision.verdict == "above_trigger"
    assert due_accounts(world.connection, now=world.now(days=1)) == []


def test_credit_that_ends_the_need_ends_the_verdict_at_once(world: World) -> None:
    anna = world.account(card=None)
    world.spend("anna", 600, "e1")
    world.evaluate(anna)
    assert due_accounts(world.connection) == []

    grant(world.connection, anna, 5_000)
    assert due_accounts(world.connection) == [anna]
    world.evaluate(anna)
    assert world.verdicts("anna") == ["no_card", "above_trigger"]


def test_a_decision_names_the_spend_that_crossed_the_trigger(world: World) -> None:
    anna = world.account()
    world.spend("anna", 100, "before")
    world.spend("anna", 450, "crossing")
    world.spend("anna", 10, "after")
    world.evaluate(anna)
    assert world.one("select facts ->> 'event_id' from refill.evaluation") == "crossing"


def test_an_unchanged_verdict_is_only_seen_again(world: World) -> None:
    anna = world.account(card=None)
    world.spend("anna", 600, "e1")
    world.evaluate(anna)
    later = world.now(seconds=30)
    world.evaluate(anna, now=later)

    assert world.connection.execute("select verdict, seen_at from refill.decision").fetchall() == [("no_card", later)]


def test_an_account_with_an_open_charge_gets_no_second_one(world: World) -> None:
    anna = world.account()
    world.spend("anna", 600, "e1")
    first = world.evaluate(anna)
    world.spend("anna", 400, "e2")

    # The pending 1,000 count towards the projected balance of 0 + 1,000; a higher trigger still opens nothing.
    world.connection.execute("update refill.policy set recharge_below = 5000")
    assert world.evaluate(anna).decision.verdict == "charge_open"
    assert world.one("select count(*) from refill.charge") == 1
    assert world.one("select charge_id from refill.decision where verdict = 'charge_open'") == first.charge_id


def test_two_workers_at_one_account_reserve_one_charge(world: World) -> None:
    anna = world.account()
    world.spend("anna", 600, "e1")
    found = []

    def work() -> None:
        with connect(world.url) as connection:
            found.append(evaluate(connection, anna, LIMITS).charge_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found, key=str) == [1, None, None, None]
    assert world.one("select count(*) from refill.attempt") == 1


def test_the_second_account_of_one_card_is_held_back_and_charged_when_its_time_comes(world: World) -> None:
    anna, bert = world.account("anna"), world.account("bert")
    world.spend("anna", 600, "e1")
    world.recharge(anna)
    world.spend("bert", 600, "e2")

    held = world.evaluate(bert)
    assert held.charge_id is None
    assert held.decision.verdict == "card_cooling"
    settled_at = world.one("select settled_at from refill.charge_history")
    assert held.decision.next_at == settled_at + timedelta(seconds=900)
    world.evaluate(anna)
    assert due_accounts(world.connection) == []

    assert due_accounts(world.connection, now=held.decision.next_at) == [bert]
    assert world.recharge(bert, now=held.decision.next_at) == "succeeded"
    assert world.balance("bert") == 1_400
    world.assert_books_are_clean()


def test_a_card_that_becomes_free_pays_for_every_account_that_waited_in_one_attempt(world: World) -> None:
    anna, bert, cleo = (world.account(name) for name in ("anna", "bert", "cleo"))
    world.spend("anna", 600, "e1")
    world.recharge(anna)
    for number, (account_id, name) in enumerate([(bert, "bert"), (cleo, "cleo")]):
        world.spend(name, 600, f"late-{number}")
        world.evaluate(account_id)

    free_at = world.now(seconds=901)
    assert world.recharge(bert, now=free_at) == "succeeded"

    assert (world.balance("bert"), world.balance("cleo")) == (1_400, 1_400)
    assert world.confirmations() == 2
    assert world.one("select count(*) from refill.charge_history where charge_id = 2") == 2
    lines = world.one("select document -> 'lines' from refill.invoice where charge_id = 2")
    assert [line["account"] for line in lines] == ["bert", "cleo"]
    world.assert_books_are_clean()


def test_managed_accounts_that_wait_for_their_managers_card_share_its_attempt_too(world: World) -> None:
    anna, bert = world.account("anna", card=None), world.account("bert", card=None)
    manager = world.account("manager")
    world.connection.execute("update refill.account set is_system = true where name = 'manager'")
    world.connection.execute("update refill.account set tier = 'managed' where name <> 'manager'")
    world.spend("manager", 600, "e1")
    world.recharge(manager)
    for account_id, name in ((anna, "anna"), (bert, "bert")):
        world.spend(name, 600, f"{name}-1")
        assert world.evaluate(account_id).decision.verdict == "card_cooling"

    assert world.recharge(anna, now=world.now(seconds=901)) == "succeeded"
    assert world.one("select count(*) from refill.charge_history where charge_id = 2 and state = 'succeeded'") == 2
    world.assert_books_are_clean()


def test_an_account_of_another_organisation_is_never_joined(world: World) -> None:
    anna, bert = world.account("anna"), world.account("bert")
    world.connection.execute(
        "insert into refill.organisation (name) values ('other');"
        "insert into refill.organisation_program select o.organisation_id, p.program_id"
        " from refill.organisation o, refill.program p where o.name = 'other';"
        "update refill.account a set organisation_id = o.organisation_id"
        " from refill.organisation o where o.name = 'other' and a.name = 'bert'"
    )
    world.spend("anna", 600, "e1")
    world.recharge(anna)
    world.spend("bert", 600, "e2")
    world.evaluate(bert)
    world.spend("anna", 1_000, "e3")

    assert world.recharge(anna, now=world.now(seconds=901)) == "succeeded"
    assert world.balance("bert") == 400


def test_the_month_cap_is_reserved_with_the_attempt_and_a_decline_gives_it_back(world: World) -> None:
    anna = world.account(cap_month=1_500)
    world.spend("anna", 600, "e1")
    reserved = world.evaluate(anna)
    world.advance(reserved.charge_id)
    world.spend("anna", 1_000, "e2")

    capped = world.evaluate(anna, now=world.now(seconds=901))
    assert capped.decision.verdict == "cap_month"
    assert capped.decision.next_at is not None
    assert "recharge.capped" in world.events("anna")

    world.connection.execute("update refill.policy set cap_month = 2000")
    assert world.recharge(anna, now=world.now(seconds=901)) == "succeeded"


def test_switched_off_means_off(world: World) -> None:
    anna = world.account(enabled=False)
    world.spend("anna", 600, "e1")
    assert world.evaluate(anna).decision.verdict == "off"
    assert world.one("select count(*) from refill.charge") == 0


def test_the_recharge_buys_as_many_packs_as_bring_it_back_to_the_trigger(world: World) -> None:
    anna = world.account(balance=3_000, recharge_below=2_500, amount=1_000)
    world.connection.execute("update refill.account set recharge_below = 2500")
    world.spend("anna", 3_000, "e1")
    world.recharge(anna)
    assert world.balance("anna") == 3_000


def test_a_shortened_setting_shortens_the_wait(world: World) -> None:
    anna, bert = world.account("anna"), world.account("bert")
    limits = replace(LIMITS, cooling_success_s=1)
    world.spend("anna", 600, "e1")
    world.recharge(anna, limits)
    world.spend("bert", 600, "e2")

    held = world.evaluate(bert, limits)
    if held.decision.verdict == "card_cooling":
        held = world.evaluate(bert, limits, now=held.decision.next_at)
    assert held.charge_id is not None


def test_money_of_a_taxed_program_is_charged_gross_and_invoiced_with_its_tax(world: World) -> None:
    anna = world.account(program="sms", amount=1_000)
    world.spend("anna", 600, "e1")
    assert world.recharge(anna) == "succeeded"

    net, tax, gross = world.connection.execute(
        "select net_minor, tax_minor, amount_minor from refill.invoice"
    ).fetchone() or (0, 0, 0)
    assert gross == net + tax
    assert tax == (net * 10 + 50) // 100  # 10 % GST, rounded half up once
    charged = world.sandbox.client().v1.payment_intents.list().data[0]
    assert (charged.amount, charged.currency) == (gross, "aud")
    world.assert_books_are_clean()
