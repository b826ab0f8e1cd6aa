"""Lists page, filter and expand as the SDK expects."""

from __future__ import annotations

import pytest
import stripe

from tests.gateway.payments import intent_for, paid, saved_card
from tests.support.sandbox import Sandbox


def _customers(client: stripe.StripeClient, count: int) -> list[str]:
    return [client.v1.customers.create({"name": f"{number}"}).id for number in range(count)]


def test_a_list_gives_the_newest_first_and_says_whether_there_is_more(client: stripe.StripeClient) -> None:
    made = _customers(client, 12)
    page = client.v1.customers.list()
    assert [customer.id for customer in page.data] == made[:1:-1]
    assert page.has_more
    assert not client.v1.customers.list({"limit": 12}).has_more


def test_auto_paging_walks_everything_once_in_both_directions(client: stripe.StripeClient) -> None:
    made = _customers(client, 7)
    assert [customer.id for customer in client.v1.customers.list({"limit": 3}).auto_paging_iter()] == made[::-1]
    newer = client.v1.customers.list({"limit": 2, "ending_before": made[0]}).auto_paging_iter()
    assert [customer.id for customer in newer] == made[1:]


def test_paging_is_stable_while_new_objects_arrive(client: stripe.StripeClient) -> None:
    made = _customers(client, 5)
    seen = []
    for customer in client.v1.customers.list({"limit": 2}).auto_paging_iter():
        seen.append(customer.id)
        client.v1.customers.create()
    assert seen == made[::-1]


def test_created_bounds_are_exact(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    times = []
    for _ in range(3):
        times.append(client.v1.customers.create().created)
        sandbox.advance(100)
    first, middle, last = times

    def count(created: object) -> int:
        return len(client.v1.customers.list({"created": created}).data)  # type: ignore[arg-type]

    assert [count({"gt": middle}), count({"gte": middle}), count({"lt": middle}), count({"lte": middle})] == [
        1,
        2,
        1,
        2,
    ]
    assert [count(middle), count({"gt": first, "lt": last})] == [1, 1]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"starting_after": "cus_none"},
        {"created": {"after": 1}},
        {"colour": 1},
    ],
    ids=str,
)
def test_bad_paging_is_refused(shared_client: stripe.StripeClient, params: dict[str, object]) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        shared_client.v1.customers.list(params)  # type: ignore[arg-type]


def test_payments_are_listed_by_customer(client: stripe.StripeClient) -> None:
    mine, other = paid(client), paid(client)
    assert isinstance(mine.customer, str)
    assert [intent.id for intent in client.v1.payment_intents.list({"customer": mine.customer}).data] == [mine.id]
    assert [charge.id for charge in client.v1.charges.list({"customer": mine.customer}).data] == [mine.latest_charge]
    assert [charge.id for charge in client.v1.charges.list({"payment_intent": other.id}).data] == [other.latest_charge]


def test_payment_methods_are_listed_by_customer_on_both_paths(client: stripe.StripeClient) -> None:
    customer, method = saved_card(client, "ok")
    saved_card(client, "ok")
    for found in (
        client.v1.customers.payment_methods.list(customer, {"type": "card"}),
        client.v1.payment_methods.list({"customer": customer, "type": "card"}),
    ):
        assert [each.id for each in found.data] == [method]
    assert client.v1.customers.payment_methods.list(customer, {"type": "sepa_debit"}).data == []
    assert client.v1.customers.payment_methods.retrieve(customer, method).id == method


def test_events_are_listed_from_a_cursor_by_type(client: stripe.StripeClient) -> None:
    cursor = client.v1.events.list({"limit": 1}).data or None
    assert cursor is None
    client.v1.customers.create()
    cursor = client.v1.events.list({"limit": 1}).data
    intent = paid(client)
    newer = client.v1.events.list(
        {"ending_before": cursor[0].id, "types": ["payment_intent.succeeded", "charge.succeeded"]}
    )
    assert [event.type for event in newer.data] == ["payment_intent.succeeded", "charge.succeeded"]
    assert newer.data[0].data.object["id"] == intent.id
    assert len(client.v1.events.list({"type": "customer.created"}).data) == 2


def test_expansion_puts_the_object_in_the_place_of_its_id(client: stripe.StripeClient) -> None:
    intent = paid(client)
    plain = client.v1.payment_intents.retrieve(intent.id)
    assert isinstance(plain.latest_charge, str)
    full = client.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge.customer", "payment_method"]})
    assert isinstance(full.latest_charge, stripe.Charge)
    assert isinstance(full.latest_charge.customer, stripe.Customer)
    assert isinstance(full.payment_method, stripe.PaymentMethod)
    (listed,) = client.v1.payment_intents.list({"expand": ["data.latest_charge"]}).data
    assert isinstance(listed.latest_charge, stripe.Charge)
    assert isinstance(client.v1.payment_intents.retrieve(intent.id).latest_charge, str)


def test_what_cannot_be_expanded_is_refused(shared_client: stripe.StripeClient) -> None:
    intent = intent_for(shared_client, "ok")
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        shared_client.v1.payment_intents.retrieve(intent.id, {"expand": ["amount"]})


def test_a_customer_is_updated_found_by_email_and_deleted(client: stripe.StripeClient) -> None:
    customer, method = saved_card(client, "ok")
    client.v1.customers.update(customer, {"email": "new@example.com", "metadata": {"a": "1", "b": "2"}})
    changed = client.v1.customers.update(
        customer, {"metadata": {"a": ""}, "invoice_settings": {"default_payment_method": method}}
    )
    assert changed.metadata is not None
    assert changed.invoice_settings is not None
    assert (changed.email, changed.metadata.to_dict()) == ("new@example.com", {"b": "2"})
    assert changed.invoice_settings.default_payment_method == method
    assert [found.id for found in client.v1.customers.list({"email": "new@example.com"}).data] == [customer]
    assert client.v1.customers.list({"email": "old@example.com"}).data == []

    assert client.v1.customers.delete(customer).deleted
    assert client.v1.customers.retrieve(customer).deleted
    assert client.v1.customers.list().data == []
    assert client.v1.payment_methods.retrieve(method).customer is None
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.payment_intents.create({"amount": 1000, "currency": "usd", "customer": customer})
