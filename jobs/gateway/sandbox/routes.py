"""Which function answers which path of the API."""

from __future__ import annotations

import re
from collections.abc import Callable

from jobs.gateway.sandbox import charges, customers, disputes, events, intents, payment_methods, refunds
from jobs.gateway.sandbox.context import Context
from jobs.gateway.sandbox.params import Params
from jobs.gateway.sandbox.wire import Answer, ApiError, Json

Endpoint = Callable[..., Json | Answer]

TABLE: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/v1/customers", customers.create),
    ("GET", "/v1/customers", customers.index),
    ("GET", "/v1/customers/:id", customers.retrieve),
    ("POST", "/v1/customers/:id", customers.update),
    ("DELETE", "/v1/customers/:id", customers.delete),
    ("GET", "/v1/customers/:id/payment_methods", payment_methods.of_customer),
    ("GET", "/v1/customers/:id/payment_methods/:id", payment_methods.one_of_customer),
    ("POST", "/v1/payment_methods", payment_methods.create),
    ("GET", "/v1/payment_methods", payment_methods.index),
    ("GET", "/v1/payment_methods/:id", payment_methods.retrieve),
    ("POST", "/v1/payment_methods/:id/attach", payment_methods.attach),
    ("POST", "/v1/payment_methods/:id/detach", payment_methods.detach),
    ("POST", "/v1/payment_intents", intents.create),
    ("GET", "/v1/payment_intents", intents.index),
    ("GET", "/v1/payment_intents/:id", intents.retrieve),
    ("POST", "/v1/payment_intents/:id/confirm", intents.confirm),
    ("POST", "/v1/payment_intents/:id/cancel", intents.cancel),
    ("GET", "/v1/charges", charges.index),
    ("GET", "/v1/charges/:id", charges.retrieve),
    ("POST", "/v1/refunds", refunds.create),
    ("GET", "/v1/refunds", refunds.index),
    ("GET", "/v1/refunds/:id", refunds.retrieve),
    ("GET", "/v1/disputes", disputes.index),
    ("GET", "/v1/disputes/:id", disputes.retrieve),
    ("GET", "/v1/events", events.index),
    ("GET", "/v1/events/:id", events.retrieve),
)
PATTERNS = tuple((method, re.compile(path.replace(":id", "([^/]+)")), endpoint) for method, path, endpoint in TABLE)


def execute(ctx: Context, method: str, path: str, params: Params) -> Answer:
    """Do what the request asks. Raises ApiError where no endpoint has this path, or where the endpoint refuses."""
    for wanted, pattern, endpoint in PATTERNS:
        match = pattern.fullmatch(path) if wanted == method else None
        if match:
            result = endpoint(ctx, params, *match.groups())
            return result if isinstance(result, Answer) else Answer(200, result)
    raise ApiError(
        404, f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs.", stored=False
    )
