"""Which answers of the processor are asked for again at once, with the same key, and which are not."""

from __future__ import annotations

import pytest
import stripe

from jobs.gateway.stripe import TRIES, ProcessorRefused, ProcessorUnavailable, StripeGateway
from tests.gateway.payments import intent_for
from tests.support.sandbox import Sandbox


@pytest.fixture(scope="module")
def gateway(shared_sandbox: Sandbox) -> StripeGateway:
    return StripeGateway(shared_sandbox.key, shared_sandbox.url, 5.0)


@pytest.fixture
def intent(shared_client: stripe.StripeClient) -> str:
    """An intent of the test's own, which its faults and its keys name."""
    return intent_for(shared_client, "ok").id


def keys_of_confirmations(sandbox: Sandbox, intent: str) -> list[object]:
    """The keys of the confirmations that the processor received, in order."""
    return [request["idempotency_key"] for request in sandbox.requests(f"{intent}/confirm")]


@pytest.mark.parametrize("kind", ["conflict", "rate_limit", "unavailable", "drop_before", "drop_after"])
def test_what_may_be_repeated_is_repeated_with_the_same_key(
    shared_sandbox: Sandbox, gateway: StripeGateway, intent: str, kind: str
) -> None:
    shared_sandbox.fault(kind, f"{intent}/confirm$")
    assert gateway.confirm(intent, f"{intent}:key").status == "succeeded"
    assert keys_of_confirmations(shared_sandbox, intent) == [f"{intent}:key"] * 2


@pytest.mark.parametrize("kind", ["conflict", "rate_limit", "unavailable"])
def test_what_does_not_pass_leaves_the_outcome_unknown(
    shared_sandbox: Sandbox, gateway: StripeGateway, intent: str, kind: str
) -> None:
    shared_sandbox.fault(kind, f"{intent}/confirm$", count=TRIES)
    with pytest.raises(ProcessorUnavailable):
        gateway.confirm(intent, f"{intent}:key")
    assert keys_of_confirmations(shared_sandbox, intent) == [f"{intent}:key"] * TRIES


@pytest.mark.parametrize("kind", ["error_500_before", "error_500_after"])
def test_an_error_that_is_not_marked_as_repeatable_is_not_repeated(
    shared_sandbox: Sandbox, gateway: StripeGateway, intent: str, kind: str
) -> None:
    shared_sandbox.fault(kind, f"{intent}/confirm$")
    with pytest.raises(ProcessorUnavailable):
        gateway.confirm(intent, f"{intent}:key")
    assert keys_of_confirmations(shared_sandbox, intent) == [f"{intent}:key"]


def test_a_refusal_is_not_repeated(shared_sandbox: Sandbox, gateway: StripeGateway) -> None:
    with pytest.raises(ProcessorRefused):
        gateway.confirm("pi_unknown", "key of an unknown intent")
    assert keys_of_confirmations(shared_sandbox, "pi_unknown") == ["key of an unknown intent"]
