"""The wire: authentication, headers, form decoding, and what is not understood."""

from __future__ import annotations

import base64
from http.client import HTTPConnection

import pytest
import stripe

from tests.gateway.payments import error_of
from tests.support.sandbox import KEY, Sandbox

FORM = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("key", ["sk_test_wrong", KEY + "x", KEY[:-1]])
def test_a_wrong_api_key_is_refused_and_never_repeated_in_full(shared_sandbox: Sandbox, key: str) -> None:
    with pytest.raises(stripe.AuthenticationError) as refused:
        shared_sandbox.client(key=key).v1.customers.list()
    assert refused.value.http_status == 401
    assert key not in str(error_of(refused.value))


@pytest.mark.parametrize("authorization", ["", "Bearer", "Basic ???", f"Token {KEY}", f"Basic {KEY}"])
def test_a_malformed_authorization_is_refused(shared_sandbox: Sandbox, authorization: str) -> None:
    status, body = shared_sandbox.http("GET", "/v1/customers", headers={"Authorization": authorization})
    assert (status, "error" in body) == (401, True)


def test_basic_authentication_works_as_curl_sends_it(shared_sandbox: Sandbox) -> None:
    basic = base64.b64encode(f"{KEY}:".encode()).decode()
    assert shared_sandbox.http("GET", "/v1/customers", headers={"Authorization": f"Basic {basic}"})[0] == 200


def test_every_answer_carries_its_request_id_and_version(shared_client: stripe.StripeClient) -> None:
    first, second = (shared_client.v1.customers.create() for _ in range(2))
    assert first.last_response is not None
    assert second.last_response is not None
    assert str(first.last_response.request_id).startswith("req_")
    assert first.last_response.request_id != second.last_response.request_id
    headers = {name.lower(): value for name, value in first.last_response.headers.items()}
    assert headers["stripe-version"] == stripe.api_version


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("name=%C3%A9", 200),
        ("name=%FF", 400),
        ("metadata[a]=1&metadata[b]=2", 200),
        ("metadata=1&metadata[a]=2", 400),
        ("metadata[a]=1&metadata=2", 400),
        ("metadata[[a]]=1", 400),
        ("[a]=1", 400),
        ("metadata[a][b]=1", 400),
        ("a[b][c][d][e][f][g][h][i][j]=1", 400),
    ],
)
def test_forms_are_decoded_or_refused(shared_sandbox: Sandbox, form: str, status: int) -> None:
    assert shared_sandbox.http("POST", "/v1/customers", form, FORM)[0] == status


def test_metadata_comes_back_as_it_was_sent(shared_client: stripe.StripeClient) -> None:
    metadata = {"attempt": "42", "note": "a=b&c[d] é"}
    made = shared_client.v1.customers.create({"metadata": metadata})
    found = shared_client.v1.customers.retrieve(made.id)
    assert found.metadata is not None
    assert found.metadata.to_dict() == metadata
    assert found.livemode is False


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/subscriptions"), ("POST", "/v1/events"), ("GET", "/"), ("GET", "/_sandbox/nothing")],
)
def test_an_unknown_path_is_404(shared_sandbox: Sandbox, method: str, path: str) -> None:
    assert shared_sandbox.http(method, path, headers=FORM)[0] == 404


@pytest.mark.parametrize("kind", ["payment_intents", "charges", "refunds", "events", "disputes", "payment_methods"])
def test_a_missing_object_is_404_resource_missing(shared_sandbox: Sandbox, kind: str) -> None:
    status, body = shared_sandbox.http("GET", f"/v1/{kind}/nothing", headers=FORM)
    error = body["error"]
    assert isinstance(error, dict)
    assert (status, error["code"], error["type"]) == (404, "resource_missing", "invalid_request_error")


def test_a_body_of_no_known_length_is_refused(shared_sandbox: Sandbox) -> None:
    for length in ("x", "2000000000", "-1"):
        assert shared_sandbox.http("POST", "/v1/customers", "", {**FORM, "Content-Length": length})[0] == 400


def test_one_connection_serves_many_requests(shared_sandbox: Sandbox) -> None:
    connection = HTTPConnection("127.0.0.1", shared_sandbox.port, timeout=10)
    try:
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("GET", "/v1/customers", headers=FORM)
            assert connection.getresponse().read()
        assert connection.sock is first
    finally:
        connection.close()


def test_health_and_requests_need_no_key_and_are_not_logged(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    assert sandbox.control("GET", "health") == {"status": "ok"}
    assert sandbox.requests() == []
    client.v1.customers.create(options={"idempotency_key": "k"})
    (request,) = sandbox.requests()
    assert {name: request[name] for name in ("method", "path", "idempotency_key", "status", "replayed")} == {
        "method": "POST",
        "path": "/v1/customers",
        "idempotency_key": "k",
        "status": 200,
        "replayed": False,
    }
    later = sandbox.control("GET", f"requests?after={request['id']}")
    assert later["data"] == []
