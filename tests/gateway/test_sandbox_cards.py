"""Each test card does what its name says, with Stripe's codes in every place where Stripe puts them."""

from __future__ import annotations

import pytest
import stripe

from tests.gateway.payments import error_of, intent_for, saved_card
from tests.support.sandbox import Sandbox

DECLINES = [
    ("declined", "card_declined", "generic_decline", "try_again_later", None, "01"),
    ("insufficient_funds", "card_declined", "insufficient_funds", "try_again_later", None, "51"),
    ("lost_card", "card_declined", "lost_card", "do_not_try_again", None, "41"),
    ("stolen_card", "card_declined", "stolen_card", "do_not_try_again", None, "43"),
    ("expired_card", "expired_card", None, "confirm_card_data", None, "54"),
    ("processing_error", "processing_error", None, "try_again_later", None, "96"),
    ("velocity", "card_declined", "card_velocity_exceeded", "try_again_later", None, "65"),
    ("authentication_required", "authentication_required", "authentication_required", None, None, "1A"),
    ("declined:bob", "card_declined", "generic_decline", "try_again_later", None, "01"),
    ("decline__pickup_card", "card_declined", "pickup_card", None, None, None),
    ("decline__incorrect_cvc", "incorrect_cvc", "incorrect_cvc", None, None, None),
    ("decline__do_not_honor__mc03", "card_declined", "do_not_honor", None, "03", None),
    ("decline__generic_decline__mc24:7", "card_declined", "generic_decline", None, "24", None),
    ("decline__do_not_honor__visaR1", "card_declined", "do_not_honor", None, None, "R1"),
    (
        "decline__call_issuer__visa14__advice_do_not_try_again",
        "card_declined",
        "call_issuer",
        "do_not_try_again",
        None,
        "14",
    ),
    ("decline__call_issuer__advice_confirm_card_data", "card_declined", "call_issuer", "confirm_card_data", None, None),
]
CODES = ("code", "decline_code", "advice_code", "network_advice_code", "network_decline_code")


@pytest.mark.parametrize(("name", *CODES), DECLINES, ids=[row[0] for row in DECLINES])
def test_a_declining_card_gives_its_codes_in_the_error_the_intent_and_the_charge(
    shared_client: stripe.StripeClient,
    name: str,
    code: str,
    decline_code: str | None,
    advice_code: str | None,
    network_advice_code: str | None,
    network_decline_code: str | None,
) -> None:
    intent = intent_for(shared_client, name)
    with pytest.raises(stripe.CardError) as declined:
        shared_client.v1.payment_intents.confirm(intent.id, {"off_session": True})
    expected = dict(
        zip(CODES, (code, decline_code, advice_code, network_advice_code, network_decline_code), strict=True)
    )

    error = error_of(declined.value)
    assert declined.value.http_status == 402
    assert {field: error.get(field) for field in CODES} == expected
    assert error["type"] == "card_error"
    assert error["payment_intent"]["id"] == intent.id

    now = shared_client.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert (now.status, now.payment_method, now.amount_received) == ("requires_payment_method", None, 0)
    last_error = now.to_dict()["last_payment_error"]
    assert {field: last_error.get(field) for field in CODES} == expected
    assert last_error["payment_method"]["id"] == intent.payment_method

    charge = now.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert charge.outcome is not None
    assert (charge.status, charge.paid, charge.failure_code) == ("failed", False, code)
    assert charge.outcome.reason == (decline_code or code)
    assert [charge.outcome.advice_code, charge.outcome.network_advice_code, charge.outcome.network_decline_code] == [
        advice_code,
        network_advice_code,
        network_decline_code,
    ]


def test_the_ok_card_pays(shared_client: stripe.StripeClient) -> None:
    intent = intent_for(shared_client, "ok", amount=1234)
    paid = shared_client.v1.payment_intents.confirm(intent.id, {"off_session": True, "expand": ["latest_charge"]})
    charge = paid.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert charge.outcome is not None
    assert (paid.status, paid.amount_received, paid.last_payment_error) == ("succeeded", 1234, None)
    assert (charge.status, charge.amount_captured, charge.outcome.network_status) == (
        "succeeded",
        1234,
        "approved_by_network",
    )


def test_a_card_that_wants_authentication_asks_for_it_where_the_customer_is_there(
    shared_client: stripe.StripeClient,
) -> None:
    intent = intent_for(shared_client, "authentication_required")
    asked = shared_client.v1.payment_intents.confirm(intent.id)
    assert asked.status == "requires_action"
    assert asked.next_action is not None
    assert asked.next_action.type == "use_stripe_sdk"
    assert asked.latest_charge is None


def test_ok_then_declined_counts_by_physical_card_not_by_where_it_is_saved(
    shared_client: stripe.StripeClient,
) -> None:
    first, again, other = (intent_for(shared_client, f"ok_then_declined:{card}") for card in ("a", "a", "b"))
    confirm = shared_client.v1.payment_intents.confirm
    assert confirm(first.id).status == "succeeded"
    with pytest.raises(stripe.CardError) as declined:
        confirm(again.id)
    assert error_of(declined.value)["decline_code"] == "generic_decline"
    assert confirm(other.id).status == "succeeded"


def test_a_processing_card_succeeds_when_its_time_has_come(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.control("POST", "settings", {"processing_s": 600})
    intent = client.v1.payment_intents.confirm(intent_for(client, "processing").id, {"off_session": True})
    assert intent.status == "processing"
    sandbox.advance(590)
    assert client.v1.payment_intents.retrieve(intent.id).status == "processing"
    sandbox.advance(3600)

    types = [event.type for event in client.v1.events.list({"limit": 3}).data]
    assert types == ["payment_intent.succeeded", "charge.succeeded", "payment_intent.processing"]
    succeeded, _, processing = client.v1.events.list({"limit": 3}).data
    assert 599 <= succeeded.created - processing.created <= 601
    settled = client.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert (settled.status, settled.amount_received) == ("succeeded", 1000)
    assert isinstance(settled.latest_charge, stripe.Charge)
    assert settled.latest_charge.status == "succeeded"
    client.v1.payment_intents.retrieve(intent.id)
    assert len(client.v1.events.list({"type": "payment_intent.succeeded"}).data) == 1


def _fingerprint(client: stripe.StripeClient, name: str) -> str | None:
    _, method = saved_card(client, name)
    card = client.v1.payment_methods.retrieve(method).card
    assert card is not None
    return card.fingerprint


def test_a_fingerprint_is_the_physical_card_wherever_it_is_saved(
    shared_client: stripe.StripeClient, sandbox: Sandbox
) -> None:
    names = ["ok", "ok:7", "ok:alice", "declined", "declined:7", "decline__do_not_honor__mc03"]
    first = [_fingerprint(shared_client, name) for name in names]
    assert len(set(first)) == len(names)
    assert [_fingerprint(shared_client, name) for name in names] == first
    assert _fingerprint(sandbox.client(), "ok:7") == first[1]


def test_the_brand_follows_the_network_whose_code_is_asked_for(shared_client: stripe.StripeClient) -> None:
    for name, brand in (("decline__do_not_honor__mc03", "mastercard"), ("decline__do_not_honor__visa14", "visa")):
        _, method = saved_card(shared_client, name)
        card = shared_client.v1.payment_methods.retrieve(method).card
        assert card is not None
        assert card.brand == brand


@pytest.mark.parametrize(
    "token",
    [
        "tok_sandbox_",
        "tok_sandbox_gold",
        "tok_sandbox_ok:",
        "tok_sandbox_decline__",
        "tok_sandbox_decline__X",
        "tok_sandbox_decline__lost_card__advice_whatever",
        "tok_sandbox_decline__lost_card__mc3",
        "tok_unknown",
        "ok",
    ],
)
def test_a_card_that_does_not_exist_is_refused(shared_client: stripe.StripeClient, token: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such token"):
        shared_client.v1.payment_methods.create({"type": "card", "card": {"token": token}})


def _by_number(client: stripe.StripeClient, number: str) -> stripe.PaymentMethod:
    return client.v1.payment_methods.create(
        {"type": "card", "card": {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}}
    )


def test_stripes_number_that_pays_pays(shared_client: stripe.StripeClient) -> None:
    method = _by_number(shared_client, "4242 4242 4242 4242")
    assert method.card is not None
    assert method.card.last4 == "4242"
    paid = shared_client.v1.payment_intents.create(
        {"amount": 500, "currency": "usd", "payment_method": method.id, "confirm": True}
    )
    assert paid.status == "succeeded"


@pytest.mark.parametrize(
    ("number", "decline_code"),
    [
        ("4000000000000002", "generic_decline"),
        ("4000000000009995", "insufficient_funds"),
        ("4000000000009987", "lost_card"),
        ("4000000000000127", "incorrect_cvc"),
    ],
)
def test_stripes_numbers_that_decline_decline(
    shared_client: stripe.StripeClient, number: str, decline_code: str
) -> None:
    method = _by_number(shared_client, number)
    with pytest.raises(stripe.CardError) as declined:
        shared_client.v1.payment_intents.create(
            {"amount": 500, "currency": "usd", "payment_method": method.id, "confirm": True}
        )
    assert error_of(declined.value)["decline_code"] == decline_code


def test_a_number_that_is_no_test_number_is_refused(shared_client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shared_client.v1.payment_methods.create(
            {"type": "card", "card": {"number": "4111111111111112", "exp_month": 1, "exp_year": 2034}}
        )
    assert refused.value.code == "incorrect_number"


def test_a_ready_made_payment_method_is_a_new_one_each_time(shared_client: stripe.StripeClient) -> None:
    customer = shared_client.v1.customers.create()
    seen = shared_client.v1.payment_methods.retrieve("pm_card_visa").card
    assert seen is not None
    first, second = (
        shared_client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id}) for _ in range(2)
    )
    assert first.id != second.id
    assert first.card is not None
    assert second.card is not None
    assert first.card.fingerprint == second.card.fingerprint == seen.fingerprint
    with pytest.raises(stripe.CardError) as declined:
        shared_client.v1.payment_intents.create(
            {
                "amount": 500,
                "currency": "usd",
                "payment_method": "pm_card_visa_chargeDeclinedInsufficientFunds",
                "confirm": True,
            }
        )
    assert error_of(declined.value)["decline_code"] == "insufficient_funds"
