"""What every endpoint is given, and the small things they all need: ids, lookup, expansion, lists."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass

from jobs.gateway.sandbox.params import Params
from jobs.gateway.sandbox.store import Page, Store
from jobs.gateway.sandbox.wire import Json, invalid, no_such, text

ALPHABET = string.digits + string.ascii_letters
PREFIXES = {
    "customer": "cus_",
    "payment_method": "pm_1",
    "payment_intent": "pi_3",
    "charge": "ch_3",
    "refund": "re_3",
    "event": "evt_3",
    "dispute": "du_1",
}
EXPANDABLE = frozenset({"latest_charge", "payment_method", "customer", "payment_intent", "charge"})
LIST_MAX = 100


@dataclass(frozen=True)
class Context:
    """One request while it executes, inside the store's transaction.

    ``now`` is the sandbox's own time in seconds since 1970; ``processing_s`` is how long a processing intent takes;
    ``force_processing`` sends the confirmation of this request to processing, whatever the card.
    """

    store: Store
    now: float
    request_id: str | None
    idempotency_key: str | None
    api_version: str
    processing_s: float
    force_processing: bool = False

    @property
    def created(self) -> int:
        """``now`` as objects carry it, in whole seconds."""
        return int(self.now)

    def get(self, kind: str, identifier: str, param: str = "id", *, status: int = 404) -> Json:
        """The object of this id. Raises ApiError where there is none."""
        found = self.store.find(identifier, kind)
        if found is None:
            raise no_such(kind, identifier, param, status=status)
        return found


def new_id(kind: str) -> str:
    """A fresh id of Stripe's form for an object of this kind."""
    return PREFIXES[kind] + token(23)


def token(length: int) -> str:
    """Random letters and digits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def envelope(kind: str, created: int) -> Json:
    """The fields that every object begins with."""
    return {"id": new_id(kind), "object": kind, "created": created, "livemode": False}


def expand(ctx: Context, params: Params, body: Json) -> Json:
    """The object with what ``expand[]`` names in the place of its id. Raises ApiError for what cannot be expanded."""
    for path in params.items("expand"):
        _expand(ctx, body, path.split("."), path)
    return body


def _expand(ctx: Context, body: Json, parts: list[str], path: str) -> None:
    name, rest = parts[0], parts[1:]
    if name == "data" and rest and body.get("object") == "list":
        for item in _members(body):
            _expand(ctx, item, rest, path)
        return
    if name not in EXPANDABLE or name not in body:
        raise invalid(f"This property cannot be expanded ({path}).", "expand")
    if isinstance(body[name], str):
        body[name] = ctx.store.find(text(body, name))
    inner = body[name]
    if rest and isinstance(inner, dict):
        _expand(ctx, inner, rest, path)


def _members(body: Json) -> list[Json]:
    data = body["data"]
    if not isinstance(data, list):
        raise TypeError("a list object has no list")
    return data


def listing(
    ctx: Context,
    params: Params,
    kind: str,
    url: str,
    *,
    equal: dict[str, str | None] | None = None,
    labels: list[str] | None = None,
) -> Json:
    """A list object: the page that the paging parameters ask for, of objects whose columns equal what is given."""
    page = Page(
        kind,
        limit=_limit(params),
        starting_after=_cursor(ctx, params, "starting_after"),
        ending_before=_cursor(ctx, params, "ending_before"),
        created=_created(params),
        labels=labels or [],
        equal={column: value for column, value in (equal or {}).items() if value is not None},
    )
    data, has_more = ctx.store.page(page)
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def _limit(params: Params) -> int:
    limit = params.integer("limit")
    if limit is None:
        return 10
    if not 1 <= limit <= LIST_MAX:
        raise invalid(f"Invalid integer: {limit}; this value must be between 1 and {LIST_MAX}.", "limit")
    return limit


def _cursor(ctx: Context, params: Params, name: str) -> str | None:
    cursor = params.text(name)
    if cursor is not None and ctx.store.find(cursor) is None:
        raise no_such("object", cursor, name, status=400)
    return cursor


def _created(params: Params) -> dict[str, int]:
    if not isinstance(params.tree.get("created"), dict):
        exact = params.integer("created")
        return {} if exact is None else {"gte": exact, "lte": exact}
    bounds = params.group("created")
    bounds.allow("gt", "gte", "lt", "lte")
    found = {name: bounds.integer(name) for name in bounds.tree}
    return {name: value for name, value in found.items() if value is not None}
