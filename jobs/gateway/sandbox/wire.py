"""What goes over the wire: JSON objects, answers, and errors in Stripe's form (https://docs.stripe.com/api/errors)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Json = dict[str, object]

DOCS = "https://stripe.com/docs/error-codes/"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. ``stored``: an idempotency key keeps it; ``headers`` go out beside the usual ones."""

    status: int
    body: Json
    stored: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


class ApiError(Exception):
    """The request is refused without any effect.

    Stripe keeps an answer under its idempotency key only once the endpoint began to execute; ``stored`` is false for
    what fails before that (https://docs.stripe.com/api/idempotent_requests).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        stored: bool = True,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(message)
        doc_url = DOCS + code.replace("_", "-") if code else None
        parts: Json = {"code": code, "doc_url": doc_url, "message": message, "param": param, "type": kind, **extra}
        body: Json = {"error": {name: value for name, value in parts.items() if value is not None}}
        self.answer = Answer(status, body, stored, headers or {})


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The parameters fail validation: 400, before execution, so not stored."""
    return ApiError(400, message, code=code, param=param, stored=False)


def no_such(kind: str, identifier: str, param: str = "id", *, status: int = 404) -> ApiError:
    """An object is missing: 404 where the path names it, 400 where a parameter does."""
    return ApiError(status, f"No such {kind}: '{identifier}'", code="resource_missing", param=param)


def unexpected_state(message: str, intent: Json) -> ApiError:
    """The payment intent is not in a state that allows this."""
    return ApiError(400, message, code="payment_intent_unexpected_state", payment_intent=intent)


def server_error() -> Answer:
    """A 500 as Stripe stores it: retrying under the same key only replays it, and the header says so."""
    body: Json = {"error": {"message": "An unknown error occurred", "type": "api_error"}}
    return Answer(500, body, headers={"Stripe-Should-Retry": "false"})


def text(body: Json, name: str) -> str:
    """The string under ``name``; a missing one is a fault of this program."""
    value = body[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__}, not a string")
    return value


def number(body: Json, name: str) -> int:
    """The integer under ``name``; a missing one is a fault of this program."""
    value = body[name]
    if not isinstance(value, int):
        raise TypeError(f"{name} is {type(value).__name__}, not an integer")
    return value


def optional_text(body: Json, name: str) -> str | None:
    """The string under ``name``, or None where it is null or absent."""
    return None if body.get(name) is None else text(body, name)


def nested(body: Json, name: str) -> Json:
    """The object under ``name``; a missing one is a fault of this program."""
    value = body[name]
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {type(value).__name__}, not an object")
    return value
