"""Each fault on request does to a payment exactly what its name says, and only to the requests it is for."""

from __future__ import annotations

import time

import pytest
import stripe

from tests.gateway.payments import error_of, intent_for
from tests.support.sandbox import Sandbox

CONFIRM = "POST /v1/payment_intents/.*/confirm"


def _confirm(client: stripe.StripeClient, intent: str) -> stripe.PaymentIntent:
    return client.v1.payment_intents.confirm(
        intent, {"off_session": True}, options={"idempotency_key": "attempt-1:confirm"}
    )


def _status(client: stripe.StripeClient, intent: str) -> str:
    return client.v1.payment_intents.retrieve(intent).status


def _confirmations(sandbox: Sandbox) -> list[tuple[object, object]]:
    return [(request["status"], request["replayed"]) for request in sandbox.requests("/confirm")]


def test_drop_before_does_nothing_and_the_same_key_then_pays(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    intent = intent_for(client, "ok").id
    sandbox.fault("drop_before", CONFIRM)
    with pytest.raises(stripe.APIConnectionError):
        _confirm(client, intent)
    assert _status(client, intent) == "requires_confirmation"
    assert _confirm(client, intent).status == "succeeded"
    assert _confirmations(sandbox) == [(None, False), (200, False)]


def test_drop_after_pays_without_saying_so_and_the_same_key_then_says_it(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    intent = intent_for(client, "ok").id
    sandbox.fault("drop_after", CONFIRM)
    with pytest.raises(stripe.APIConnectionError):
        _confirm(client, intent)
    assert _status(client, intent) == "succeeded"
    assert _confirm(client, intent).status == "succeeded"
    assert _confirmations(sandbox) == [(None, False), (200, True)]
    assert len(client.v1.charges.list().data) == 1


def test_delay_answers_late_what_is_done_already(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    intent = intent_for(client, "ok").id
    sandbox.fault("delay", CONFIRM, seconds=60)
    with pytest.raises(stripe.APIConnectionError):
        _confirm(sandbox.client(timeout_s=0.5), intent)
    assert _status(client, intent) == "succeeded"


def test_delay_answers_in_the_end(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    intent = intent_for(client, "ok").id
    sandbox.fault("delay", CONFIRM, seconds=0.3)
    started = time.monotonic()
    assert _confirm(client, intent).status == "succeeded"
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    ("kind", "status"), [("error_500_before", "requires_confirmation"), ("error_500_after", "succeeded")]
)
def test_a_500_is_stored_and_replayed_for_ever_whether_or_not_it_paid(
    sandbox: Sandbox, client: stripe.StripeClient, kind: str, status: str
) -> None:
    intent = intent_for(client, "ok").id
    sandbox.fault(kind, CONFIRM)
    for replayed in (None, "true"):
        with pytest.raises(stripe.APIError) as failed:
            _confirm(client, intent)
        assert failed.value.http_status == 500
        assert failed.value.headers is not None
        assert failed.value.headers["stripe-should-retry"] == "false"
        assert failed.value.headers.get("idempotent-replayed") == replayed
    assert _status(client, intent) == status


@pytest.mark.parametrize(
    ("kind", "status", "code", "retry"),
    [
        ("rate_limit", 429, "rate_limit", None),
        ("conflict", 409, "idempotency_key_in_use", "true"),
        ("unavailable", 503, None, "true"),
    ],
)
def test_a_passing_refusal_is_not_stored_and_does_nothing(
    sandbox: Sandbox, client: stripe.StripeClient, kind: str, status: int, code: str | None, retry: str | None
) -> None:
    intent = intent_for(client, "ok").id
    sandbox.fault(kind, CONFIRM)
    with pytest.raises(stripe.StripeError) as refused:
        _confirm(client, intent)
    assert (refused.value.http_status, error_of(refused.value).get("code")) == (status, code)
    assert refused.value.headers is not None
    assert refused.value.headers.get("stripe-should-retry") == retry
    assert _status(client, intent) == "requires_confirmation"
    assert _confirm(client, intent).status == "succeeded"
    assert _confirmations(sandbox) == [(status, False), (200, False)]


@pytest.mark.parametrize(("card", "status"), [("ok", "succeeded"), ("declined", "requires_payment_method")])
def test_processing_holds_the_answer_of_the_card_back(
    sandbox: Sandbox, client: stripe.StripeClient, card: str, status: str
) -> None:
    intent = intent_for(client, card).id
    sandbox.fault("processing", CONFIRM, seconds=500)
    assert _confirm(client, intent).status == "processing"
    sandbox.advance(400)
    assert _status(client, intent) == "processing"
    sandbox.advance(200)
    settled = client.v1.payment_intents.retrieve(intent)
    assert settled.status == status
    assert (settled.last_payment_error is None) == (card == "ok")


def test_a_fault_strikes_only_what_matches_and_as_often_as_asked(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("rate_limit", "POST /v1/customers$", count=2)
    client.v1.customers.list()
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError):
            client.v1.customers.create()
    assert client.v1.customers.create().id


def test_faults_are_listed_and_cleared(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("rate_limit", "customers", count=3)
    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.create()
    left = {"kind": "rate_limit", "path": "customers", "count": 2, "seconds": 0.0}
    assert sandbox.control("GET", "faults")["data"] == [left]
    sandbox.control("DELETE", "faults")
    assert sandbox.control("GET", "faults")["data"] == []
    assert client.v1.customers.create().id


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '{"kind": "typhoon"}',
        '{"kind": "delay", "path": "("}',
        '{"kind": "delay", "count": 0}',
        '{"kind": "delay", "seconds": -1}',
        '{"kind": "delay", "seconds": "soon"}',
        '{"kind": "delay", "count": true}',
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(shared_sandbox: Sandbox, body: str) -> None:
    status, _ = shared_sandbox.http("POST", "/_sandbox/faults", body)
    assert status == 400
    assert shared_sandbox.control("GET", "faults")["data"] == []
