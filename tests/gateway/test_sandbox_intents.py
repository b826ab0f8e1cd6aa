"""A payment intent goes through Stripe's states, and refuses what Stripe refuses."""

from __future__ import annotations

import pytest
import stripe

from tests.gateway.payments import error_of, intent_for, paid, saved_card
from tests.support.sandbox import Sandbox


def _create(client: stripe.StripeClient, **params: object) -> stripe.PaymentIntent:
    return client.v1.payment_intents.create({"amount": 1000, "currency": "usd", **params})  # type: ignore[typeddict-item]


def test_an_intent_waits_for_a_payment_method_then_for_its_confirmation(shared_client: stripe.StripeClient) -> None:
    assert _create(shared_client).status == "requires_payment_method"
    assert intent_for(shared_client, "ok").status == "requires_confirmation"


def test_confirm_at_creation_pays_at_once(shared_client: stripe.StripeClient) -> None:
    customer, method = saved_card(shared_client, "ok")
    intent = _create(shared_client, customer=customer, payment_method=method, confirm=True, off_session=True)
    assert intent.status == "succeeded"


def test_a_payment_method_may_come_with_the_confirmation(shared_client: stripe.StripeClient) -> None:
    intent = _create(shared_client)
    assert shared_client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"}).status == "succeeded"


def test_confirming_without_a_payment_method_is_refused(shared_client: stripe.StripeClient) -> None:
    intent = _create(shared_client)
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method") as refused:
        shared_client.v1.payment_intents.confirm(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"


def test_after_a_decline_another_card_can_pay_the_same_intent(shared_client: stripe.StripeClient) -> None:
    intent = intent_for(shared_client, "declined")
    with pytest.raises(stripe.CardError):
        shared_client.v1.payment_intents.confirm(intent.id)
    ok = shared_client.v1.payment_methods.create({"type": "card", "card": {"token": "tok_sandbox_ok"}})
    settled = shared_client.v1.payment_intents.confirm(intent.id, {"payment_method": ok.id})
    assert (settled.status, settled.last_payment_error) == ("succeeded", None)
    charges = shared_client.v1.charges.list({"payment_intent": intent.id}).data
    assert [charge.status for charge in charges] == ["succeeded", "failed"]


@pytest.mark.parametrize("status", ["succeeded", "canceled", "processing"])
def test_an_intent_that_is_over_or_under_way_cannot_be_confirmed(
    shared_client: stripe.StripeClient, status: str
) -> None:
    intent = _intent_that_is(shared_client, status)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shared_client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert refused.value.code == "payment_intent_unexpected_state"
    assert error_of(refused.value)["payment_intent"]["status"] == status
    assert len(shared_client.v1.charges.list({"payment_intent": intent.id}).data) == (0 if status == "canceled" else 1)


@pytest.mark.parametrize("status", ["requires_payment_method", "requires_confirmation", "requires_action"])
def test_an_intent_that_took_nothing_can_be_cancelled_and_never_pays_then(
    shared_client: stripe.StripeClient, status: str
) -> None:
    intent = _intent_that_is(shared_client, status)
    cancelled = shared_client.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (cancelled.status, cancelled.cancellation_reason) == ("canceled", "abandoned")
    assert cancelled.canceled_at is not None
    with pytest.raises(stripe.InvalidRequestError):
        shared_client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})


@pytest.mark.parametrize("status", ["succeeded", "canceled", "processing"])
def test_an_intent_that_may_have_taken_money_cannot_be_cancelled(
    shared_client: stripe.StripeClient, status: str
) -> None:
    intent = _intent_that_is(shared_client, status)
    with pytest.raises(stripe.InvalidRequestError, match="cannot cancel") as refused:
        shared_client.v1.payment_intents.cancel(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"
    assert shared_client.v1.payment_intents.retrieve(intent.id).status == status


def _intent_that_is(client: stripe.StripeClient, status: str) -> stripe.PaymentIntent:
    if status == "requires_payment_method":
        return _create(client)
    if status == "requires_confirmation":
        return intent_for(client, "ok")
    if status == "canceled":
        return client.v1.payment_intents.cancel(_create(client).id)
    if status == "succeeded":
        return paid(client)
    name = {"requires_action": "authentication_required", "processing": "processing"}[status]
    intent = client.v1.payment_intents.confirm(intent_for(client, name).id)
    assert intent.status == status
    return intent


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"amount": "12.5"}, "parameter_invalid_integer", "amount"),
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": -5}, "parameter_invalid_integer", "amount"),
        ({"amount": 49}, "amount_too_small", "amount"),
        ({"amount": 100_000_000}, "amount_too_large", "amount"),
        ({"amount": 10**30}, "parameter_invalid_integer", "amount"),
        ({"amount": ""}, "parameter_missing", "amount"),
        ({"currency": ""}, "parameter_missing", "currency"),
        ({"currency": "dollars"}, None, "currency"),
        ({"customer": "cus_none"}, "resource_missing", "customer"),
        ({"payment_method": "pm_none"}, "resource_missing", "payment_method"),
        ({"colour": "red"}, "parameter_unknown", "colour"),
        ({"metadata": "x"}, None, "metadata"),
        ({"confirm": "maybe"}, None, "confirm"),
        ({"capture_method": "manual"}, None, "capture_method"),
        ({"off_session": True}, None, "off_session"),
        ({"payment_method_types": ["card"]}, "payment_method_types_no_longer_supported", "payment_method_types"),
        ({"allowed_payment_method_types": ["sepa_debit"]}, None, "allowed_payment_method_types"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused_by_name(
    shared_client: stripe.StripeClient, params: dict[str, object], code: str | None, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        _create(shared_client, **params)
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, code, param)


def test_a_card_is_only_charged_for_its_own_customer(shared_client: stripe.StripeClient) -> None:
    _, method = saved_card(shared_client, "ok")
    other, _ = saved_card(shared_client, "ok")
    with pytest.raises(stripe.InvalidRequestError, match="belongs to a Customer"):
        _create(shared_client, payment_method=method)
    with pytest.raises(stripe.InvalidRequestError, match="belongs to another Customer"):
        _create(shared_client, payment_method=method, customer=other)


def test_a_card_of_no_customer_works_once(shared_client: stripe.StripeClient) -> None:
    method = shared_client.v1.payment_methods.create({"type": "card", "card": {"token": "tok_sandbox_ok"}})
    assert _create(shared_client, payment_method=method.id, confirm=True).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        _create(shared_client, payment_method=method.id, confirm=True)
    customer = shared_client.v1.customers.create()
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        shared_client.v1.payment_methods.attach(method.id, {"customer": customer.id})


def test_a_detached_card_is_gone_for_good(shared_client: stripe.StripeClient) -> None:
    customer, method = saved_card(shared_client, "ok")
    assert shared_client.v1.payment_methods.detach(method).customer is None
    assert shared_client.v1.customers.payment_methods.list(customer).data == []
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        shared_client.v1.payment_methods.attach(method, {"customer": customer})
    with pytest.raises(stripe.InvalidRequestError, match="not attached"):
        shared_client.v1.payment_methods.detach(method)


def test_a_card_stays_with_its_first_customer(shared_client: stripe.StripeClient) -> None:
    _, method = saved_card(shared_client, "ok")
    other = shared_client.v1.customers.create()
    with pytest.raises(stripe.InvalidRequestError, match="already been attached"):
        shared_client.v1.payment_methods.attach(method, {"customer": other.id})


def test_each_step_leaves_its_event_with_the_object_as_it_was(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    intent = client.v1.payment_intents.confirm(intent_for(client, "ok").id)
    with pytest.raises(stripe.CardError):
        client.v1.payment_intents.confirm(intent_for(client, "declined").id)
    client.v1.payment_intents.cancel(_create(client).id)

    events = list(reversed(client.v1.events.list({"limit": 100}).data))
    assert [event.type for event in events] == [
        "customer.created",
        "payment_method.attached",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "customer.created",
        "payment_method.attached",
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
        "payment_intent.created",
        "payment_intent.canceled",
    ]
    created, succeeded = (event.data.object for event in (events[2], events[4]))
    assert (created["id"], created["status"]) == (intent.id, "requires_confirmation")
    assert (succeeded["id"], succeeded["status"]) == (intent.id, "succeeded")
    assert client.v1.events.retrieve(events[4].id).data.object["status"] == "succeeded"


def test_an_event_says_which_request_caused_it(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create(options={"idempotency_key": "attempt-1:create"})
    event = client.v1.events.list({"type": "customer.created"}).data[0]
    assert event.request is not None
    assert event.request.idempotency_key == "attempt-1:create"
    assert event.request.id == customer.last_response.request_id  # type: ignore[union-attr]


def test_a_refused_request_leaves_nothing_behind(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
        _create(client, confirm=True)
    assert client.v1.payment_intents.list().data == []
    assert client.v1.events.list().data == []
