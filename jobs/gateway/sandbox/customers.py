"""Customers (https://docs.stripe.com/api/customers)."""

from __future__ import annotations

from jobs.gateway.sandbox import events, payment_methods
from jobs.gateway.sandbox.context import Context, envelope, expand, listing
from jobs.gateway.sandbox.params import Params, merged_metadata
from jobs.gateway.sandbox.store import Page
from jobs.gateway.sandbox.wire import Json, nested, text

PLAIN = ("description", "email", "name", "phone")
RETIRED = "deleted_customer"
SETTABLE = (*PLAIN, "metadata", "invoice_settings", "expand")


def create(ctx: Context, params: Params) -> Json:
    """POST /v1/customers"""
    params.allow(*SETTABLE, "payment_method")
    customer: Json = {
        **envelope("customer", ctx.created),
        "address": None,
        "balance": 0,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        **{name: params.text(name) for name in PLAIN},
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "metadata": merged_metadata(params, {}),
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
    ctx.store.insert(customer)
    events.record(ctx, "customer.created", customer)
    method = params.text("payment_method")
    if method is not None:
        payment_methods.attach_to(ctx, method, text(customer, "id"))
    _set_default(ctx, params, customer)
    ctx.store.update(customer)
    return expand(ctx, params, customer)


def retrieve(ctx: Context, params: Params, identifier: str) -> Json:
    """GET /v1/customers/:id; a deleted one answers too, as ``deleted``."""
    params.allow("expand")
    if ctx.store.find(identifier, RETIRED) is not None:
        return _stub(identifier)
    return expand(ctx, params, ctx.get("customer", identifier))


def update(ctx: Context, params: Params, identifier: str) -> Json:
    """POST /v1/customers/:id"""
    params.allow(*SETTABLE)
    customer = ctx.get("customer", identifier)
    customer.update({name: params.text(name) for name in PLAIN if params.given(name)})
    customer["metadata"] = merged_metadata(params, nested(customer, "metadata"))
    _set_default(ctx, params, customer)
    ctx.store.update(customer)
    events.record(ctx, "customer.updated", customer)
    return expand(ctx, params, customer)


def delete(ctx: Context, params: Params, identifier: str) -> Json:
    """DELETE /v1/customers/:id: its payment methods are detached, and it is no longer listed."""
    params.allow()
    customer = ctx.get("customer", identifier)
    for method in _all_methods(ctx, identifier):
        payment_methods.release(ctx, method)
    ctx.store.run("update object set kind = ? where id = ?", RETIRED, identifier)
    events.record(ctx, "customer.deleted", customer)
    return _stub(identifier)


def index(ctx: Context, params: Params) -> Json:
    """GET /v1/customers, newest first."""
    params.allow("limit", "starting_after", "ending_before", "created", "email", "expand")
    return expand(
        ctx,
        params,
        listing(
            ctx, params, "customer", "/v1/customers", equal={"json_extract(body, '$.email')": params.text("email")}
        ),
    )


def _set_default(ctx: Context, params: Params, customer: Json) -> None:
    settings = params.group("invoice_settings")
    settings.allow("default_payment_method")
    method = settings.text("default_payment_method")
    if method is None:
        return
    payment_methods.attached_to(ctx, method, text(customer, "id"))
    nested(customer, "invoice_settings")["default_payment_method"] = method


def _all_methods(ctx: Context, customer: str) -> list[Json]:
    methods, more = ctx.store.page(Page("payment_method", limit=100, equal={"customer": customer}))
    while more:
        page, more = ctx.store.page(
            Page("payment_method", 100, starting_after=text(methods[-1], "id"), equal={"customer": customer})
        )
        methods += page
    return methods


def _stub(identifier: str) -> Json:
    return {"id": identifier, "object": "customer", "deleted": True}
