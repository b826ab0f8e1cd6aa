"""What Postgres did for a statement and for every statement inside it, by the plans that it carried out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, NamedTuple

from jobs.ledger.database import Connection

_SHOW: LiteralString = """
    load 'auto_explain';
    set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on; set auto_explain.log_timing = off;
    set auto_explain.log_nested_statements = on; set auto_explain.log_format = json;
    set auto_explain.log_level = notice; set client_min_messages = notice
"""
_HIDE: LiteralString = "set auto_explain.log_min_duration = -1; reset client_min_messages"


class Node(NamedTuple):
    """A step of a plan, and how many rows it looked at, kept or not."""

    rows: float
    name: str


@contextmanager
def carried_out(connection: Connection) -> Iterator[list[Node]]:
    """The steps of all plans of this session inside the block, in the list at its end."""
    notices: list[str] = []
    found: list[Node] = []

    def keep(notice: Any) -> None:
        notices.append(str(notice.message_primary))

    connection.add_notice_handler(keep)
    connection.execute(_SHOW)
    try:
        yield found
    finally:
        connection.execute(_HIDE)
        connection.remove_notice_handler(keep)
    found += _steps(notices)


def _steps(notices: Sequence[str]) -> Iterator[Node]:
    for text in notices:
        if "plan:" in text:
            for node in _nodes(json.loads(text[text.index("{") :])["Plan"]):
                looked_at = node["Actual Rows"] + sum(
                    node.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Join Filter", "Index Recheck")
                )
                yield Node(
                    looked_at * node["Actual Loops"],
                    f"{node['Node Type']} {node.get('Index Name') or node.get('Relation Name', '')}",
                )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
