"""The sandbox as a process: what it answered outlives ``kill -9``, and it starts and stops as the contract says."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import stripe

from tests.gateway.payments import intent_for, paid
from tests.support.sandbox import ROOT, Sandbox


def test_everything_answered_outlives_a_kill(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    intent = intent_for(client, "ok_then_declined").id
    confirmed = client.v1.payment_intents.confirm(intent, options={"idempotency_key": "confirm"})
    waiting = client.v1.payment_intents.confirm(intent_for(client, "processing").id)
    refund = client.v1.refunds.create({"payment_intent": intent, "amount": 100})
    sandbox.fault("rate_limit", "customers")
    sandbox.advance(7)
    before = [event.to_dict() for event in client.v1.events.list({"limit": 100}).data]
    asked = len(sandbox.requests())

    sandbox.kill()
    sandbox.start()

    assert [event.to_dict() for event in client.v1.events.list({"limit": 100}).data[-len(before) :]] == before
    assert client.v1.payment_intents.confirm(intent, options={"idempotency_key": "confirm"}).id == confirmed.id
    assert client.v1.refunds.retrieve(refund.id).amount == 100
    assert len(sandbox.requests()) == asked + 3
    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.create()
    sandbox.advance(3600)
    assert client.v1.payment_intents.retrieve(waiting.id).status == "succeeded"
    with pytest.raises(stripe.CardError):
        client.v1.payment_intents.confirm(intent_for(client, "ok_then_declined").id)


def test_a_kill_in_the_middle_leaves_effect_and_stored_answer_both_or_neither(sandbox: Sandbox) -> None:
    answered: list[tuple[str, str]] = []
    enough = threading.Event()

    def pay(own: stripe.StripeClient, name: str) -> None:
        for number in range(1000):
            key = f"{name}-{number}"
            try:
                answered.append((key, _pay(own, key).id))
            except stripe.APIConnectionError:
                return
            if len(answered) > 40:
                enough.set()

    threads = [threading.Thread(target=pay, args=(sandbox.client(), name)) for name in "ab"]
    for thread in threads:
        thread.start()
    assert enough.wait(20)
    sandbox.kill()
    for thread in threads:
        thread.join()
    sandbox.start()

    client = sandbox.client()
    last = {name: sum(key.startswith(name) for key, _ in answered) for name in "ab"}
    again = {key: _pay(client, key).id for key, _ in answered} | {
        f"{name}-{number}": _pay(client, f"{name}-{number}").id for name, number in last.items()
    }
    assert [again[key] for key, _ in answered] == [intent for _, intent in answered]
    intents = [intent.id for intent in client.v1.payment_intents.list({"limit": 100}).auto_paging_iter()]
    assert sorted(intents) == sorted(again.values())
    charges = [charge.payment_intent for charge in client.v1.charges.list({"limit": 100}).auto_paging_iter()]
    assert sorted(map(str, charges)) == sorted(intents)


def _pay(client: stripe.StripeClient, key: str) -> stripe.PaymentIntent:
    return client.v1.payment_intents.create(
        {"amount": 1000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True},
        options={"idempotency_key": key},
    )


def test_sigterm_ends_it_cleanly_even_while_an_answer_is_held_back(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "deep" / "sandbox.db")
    sandbox.start()
    sandbox.fault("delay", seconds=600)
    with pytest.raises(stripe.APIConnectionError):
        sandbox.client(timeout_s=0.3).v1.customers.create()
    assert sandbox.stop() == 0


def _refused_start(port: int, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.gateway.sandbox", "--port", str(port), "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=20)


def test_a_taken_port_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    refused = _refused_start(sandbox.port, tmp_path / "other.db")
    assert refused.returncode == 2
    assert '"port_in_use"' in refused.stderr
    assert str(sandbox.port) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    data = tmp_path / "notes.txt"
    data.write_text("not a database, " * 100)
    refused = _refused_start(0, data)
    assert refused.returncode == 2
    assert '"sandbox_data_unusable"' in refused.stderr
    assert "Traceback" not in refused.stderr


def test_two_sandboxes_stand_beside_each_other(sandbox: Sandbox, shared_sandbox: Sandbox) -> None:
    assert sandbox.port != shared_sandbox.port
    intent = paid(sandbox.client())
    with pytest.raises(stripe.InvalidRequestError, match="No such payment_intent"):
        shared_sandbox.client().v1.payment_intents.retrieve(intent.id)
