"""Which answers of the processor are asked for again at once, with the same key, and which are not."""

from __future__ import annotations

import pytest

from jobs.gateway.stripe import TRIES, ProcessorRefused, ProcessorUnavailable, StripeGateway
from tests.gateway.payments import intent_for
from tests.support.sandbox import Sandbox


@pytest.fixture
def gateway(sandbox: Sandbox) -> StripeGateway:
    return StripeGateway(sandbox.key, sandbox.url, 5.0)


def confirmations(sandbox: Sandbox) -> list[object]:
    """The keys of the confirmations that the processor received."""
    return [request["idempotency_key"] for request in sandbox.requests("/confirm")]


@pytest.mark.parametrize("kind", ["conflict", "rate_limit", "unavailable", "drop_before", "drop_after"])
def test_what_may_be_repeated_is_repeated_with_the_same_key(
    sandbox: Sandbox, gateway: StripeGateway, kind: str
) -> None:
    intent = intent_for(sandbox.client(), "ok")
    sandbox.fault(kind, r"/confirm$")
    assert gateway.confirm(intent.id, "key").status == "succeeded"
    assert confirmations(sandbox) == ["key", "key"]


@pytest.mark.parametrize("kind", ["conflict", "rate_limit", "unavailable"])
def test_what_does_not_pass_leaves_the_outcome_unknown(sandbox: Sandbox, gateway: StripeGateway, kind: str) -> None:
    intent = intent_for(sandbox.client(), "ok")
    sandbox.fault(kind, r"/confirm$", count=TRIES)
    with pytest.raises(ProcessorUnavailable):
        gateway.confirm(intent.id, "key")
    assert len(confirmations(sandbox)) == TRIES


@pytest.mark.parametrize("kind", ["error_500_before", "error_500_after"])
def test_an_error_that_is_not_marked_as_repeatable_is_not_repeated(
    sandbox: Sandbox, gateway: StripeGateway, kind: str
) -> None:
    intent = intent_for(sandbox.client(), "ok")
    sandbox.fault(kind, r"/confirm$")
    with pytest.raises(ProcessorUnavailable):
        gateway.confirm(intent.id, "key")
    assert confirmations(sandbox) == ["key"]


def test_a_refusal_is_not_repeated(sandbox: Sandbox, gateway: StripeGateway) -> None:
    with pytest.raises(ProcessorRefused):
        gateway.confirm("pi_unknown", "key")
    assert confirmations(sandbox) == ["key"]
