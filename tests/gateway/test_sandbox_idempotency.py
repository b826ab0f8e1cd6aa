"""An idempotency key gives its first answer again, and nothing happens twice."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import stripe

from tests.gateway.payments import error_of, intent_for, saved_card
from tests.support.sandbox import Sandbox

DAY_S = 86_400


def _create(client: stripe.StripeClient, key: str, amount: int = 1000) -> stripe.PaymentIntent:
    return client.v1.payment_intents.create({"amount": amount, "currency": "usd"}, options={"idempotency_key": key})


def _headers(answered: stripe.StripeObject) -> dict[str, str]:
    assert answered.last_response is not None
    return {name.lower(): value for name, value in answered.last_response.headers.items()}


def test_the_same_key_gives_the_first_answer_again(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    first, again = _create(client, "k"), _create(client, "k")
    assert first.to_dict() == again.to_dict()
    assert "idempotent-replayed" not in _headers(first)
    assert _headers(again)["idempotent-replayed"] == "true"
    assert len(client.v1.payment_intents.list().data) == 1
    assert [(request["status"], request["replayed"]) for request in sandbox.requests("payment_intents")][:2] == [
        (200, False),
        (200, True),
    ]


def test_the_first_answer_is_replayed_even_when_the_object_moved_on(client: stripe.StripeClient) -> None:
    customer, method = saved_card(client, "ok")
    params: stripe.params.PaymentIntentCreateParams = {
        "amount": 1000,
        "currency": "usd",
        "customer": customer,
        "payment_method": method,
    }
    intent = client.v1.payment_intents.create(params, options={"idempotency_key": "k"})
    client.v1.payment_intents.confirm(intent.id)
    again = client.v1.payment_intents.create(params, options={"idempotency_key": "k"})
    assert (again.id, again.status) == (intent.id, "requires_confirmation")


def test_a_decline_is_replayed_without_asking_the_card_again(client: stripe.StripeClient) -> None:
    intent = intent_for(client, "declined")
    answers = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as declined:
            client.v1.payment_intents.confirm(intent.id, options={"idempotency_key": "k"})
        answers.append(declined.value)
    assert error_of(answers[0]) == error_of(answers[1])
    assert answers[1].headers is not None
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert len(client.v1.charges.list().data) == 1


def test_a_refusal_of_the_endpoint_is_replayed_too(client: stripe.StripeClient) -> None:
    intent = client.v1.payment_intents.create({"amount": 1000, "currency": "usd"})
    for replayed in (None, "true"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.payment_intents.confirm(intent.id, options={"idempotency_key": "k"})
        assert refused.value.headers is not None
        assert refused.value.headers.get("idempotent-replayed") == replayed


def test_the_same_key_with_other_parameters_is_refused(client: stripe.StripeClient) -> None:
    _create(client, "k")
    with pytest.raises(stripe.IdempotencyError, match="same parameters") as refused:
        _create(client, "k", amount=2000)
    assert (refused.value.http_status, error_of(refused.value)["type"]) == (400, "idempotency_error")
    assert _headers(_create(client, "k"))["idempotent-replayed"] == "true"


def test_the_same_key_on_another_path_is_refused(client: stripe.StripeClient) -> None:
    intent = _create(client, "k")
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        client.v1.payment_intents.cancel(intent.id, options={"idempotency_key": "k"})
    assert client.v1.payment_intents.retrieve(intent.id).status == "requires_payment_method"


def test_bad_parameters_leave_the_key_free(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        _create(client, "k", amount=0)
    assert _create(client, "k", amount=1000).amount == 1000


def test_a_wrong_api_key_leaves_the_idempotency_key_free(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.AuthenticationError):
        _create(sandbox.client(key="sk_test_wrong"), "k")
    assert "idempotent-replayed" not in _headers(_create(client, "k"))


def test_a_key_is_in_progress_until_its_first_answer(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("delay", "POST /v1/payment_intents$", seconds=60)
    waiting = threading.Thread(target=_give_up, args=(sandbox,))
    waiting.start()
    waiting.join()  # the client is gone; its request is not
    with pytest.raises(stripe.APIError) as refused:
        _create(client, "k")
    assert (refused.value.http_status, error_of(refused.value)["code"]) == (409, "idempotency_key_in_use")
    assert error_of(refused.value)["type"] == "idempotency_error"


def _give_up(sandbox: Sandbox) -> None:
    with pytest.raises(stripe.APIConnectionError):
        _create(sandbox.client(timeout_s=0.5), "k")


def test_a_key_is_free_again_a_day_later(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    first = _create(client, "k")
    sandbox.advance(DAY_S - 60)
    assert _create(client, "k").id == first.id
    sandbox.advance(120)
    assert _create(client, "k", amount=2000).id != first.id
    assert _create(client, "k", amount=2000).amount == 2000


def test_keys_belong_to_their_api_key(tmp_path: Path) -> None:
    intents = []
    for key in ("sk_test_one", "sk_test_two"):
        sandbox = Sandbox(tmp_path / "sandbox.db", key=key)
        sandbox.start()
        try:
            intents.append(_create(sandbox.client(), "k").id)
        finally:
            sandbox.stop()
    assert len(set(intents)) == 2


def test_many_at_once_under_one_key_make_one_intent(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    outcomes: list[str] = []

    def ask(own: stripe.StripeClient) -> None:
        try:
            outcomes.append(_create(own, "k").id)
        except stripe.APIError as refused:
            outcomes.append(error_of(refused)["code"])

    threads = [threading.Thread(target=ask, args=(sandbox.client(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (intent,) = client.v1.payment_intents.list().data
    assert len(outcomes) == 8
    assert set(outcomes) <= {intent.id, "idempotency_key_in_use"}


def test_a_key_that_is_too_long_is_refused(client: stripe.StripeClient) -> None:
    assert _create(client, "k" * 255).id
    with pytest.raises(stripe.InvalidRequestError):
        _create(client, "k" * 256)
