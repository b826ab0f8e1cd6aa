"""Money goes back at most once, and disputes open and close on request."""

from __future__ import annotations

import pytest
import stripe

from tests.gateway.payments import intent_for, paid
from tests.support.sandbox import Sandbox


def test_a_refund_without_amount_gives_the_rest_back(client: stripe.StripeClient) -> None:
    intent = paid(client, amount=1000)
    part = client.v1.refunds.create({"payment_intent": intent.id, "amount": 300, "reason": "requested_by_customer"})
    rest = client.v1.refunds.create({"charge": str(intent.latest_charge), "metadata": {"why": "rest"}})
    assert [(part.amount, part.status), (rest.amount, rest.status)] == [(300, "succeeded"), (700, "succeeded")]
    charge = client.v1.charges.retrieve(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (1000, True)
    assert [refund.id for refund in client.v1.refunds.list({"payment_intent": intent.id}).data] == [rest.id, part.id]
    assert client.v1.refunds.retrieve(part.id).amount == 300
    types = [event.type for event in client.v1.events.list({"limit": 4}).data]
    assert types == ["refund.created", "charge.refunded"] * 2


def test_no_more_is_refunded_than_was_paid(client: stripe.StripeClient) -> None:
    intent = paid(client, amount=1000)
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 600})
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded amount"):
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 401})
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 400})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"
    assert sum(refund.amount for refund in client.v1.refunds.list().data) == 1000


def test_what_was_not_paid_is_not_refunded(shared_client: stripe.StripeClient) -> None:
    declined = intent_for(shared_client, "declined")
    with pytest.raises(stripe.CardError):
        shared_client.v1.payment_intents.confirm(declined.id)
    for intent in (declined, intent_for(shared_client, "ok")):
        with pytest.raises(stripe.InvalidRequestError):
            shared_client.v1.refunds.create({"payment_intent": intent.id})


@pytest.mark.parametrize("amount", [0, -1, "1.5"])
def test_a_refund_of_a_bad_amount_is_refused(shared_client: stripe.StripeClient, amount: object) -> None:
    intent = paid(shared_client)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shared_client.v1.refunds.create({"payment_intent": intent.id, "amount": amount})  # type: ignore[arg-type]
    assert refused.value.param == "amount"


@pytest.mark.parametrize("verdict", ["won", "lost"])
def test_a_dispute_opens_and_closes_on_request(sandbox: Sandbox, client: stripe.StripeClient, verdict: str) -> None:
    intent = paid(client)
    opened = sandbox.control("POST", "disputes", {"payment_intent": intent.id, "reason": "fraudulent"})
    (dispute,) = client.v1.disputes.list({"payment_intent": intent.id}).data
    assert (dispute.id, dispute.status, dispute.amount, dispute.charge) == (
        opened["id"],
        "needs_response",
        1000,
        intent.latest_charge,
    )
    assert client.v1.charges.retrieve(str(intent.latest_charge)).disputed
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_disputed"

    sandbox.control("POST", f"disputes/{dispute.id}/close", {"status": verdict})
    assert client.v1.disputes.retrieve(dispute.id).status == verdict
    types = [event.type for event in client.v1.events.list({"limit": 2}).data]
    assert types == ["charge.dispute.closed", "charge.dispute.created"]
    assert sandbox.http("POST", f"/_sandbox/disputes/{dispute.id}/close", '{"status": "won"}')[0] == 400
