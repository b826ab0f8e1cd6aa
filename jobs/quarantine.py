"""Events that could not be posted, kept exactly as they came, with the reason.

`fields` is a JSON list in the order of arrival, one object per field: `{"name": "amount", "value": "12.5"}`. Bytes that
JSON cannot carry as text stand under `name_base64` or `value_base64` instead. A value over VALUE_BYTES_MAX is cut, and
then its whole length and SHA-256 stand beside it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from jobs.ledger.database import Connection
from jobs.spend import Reason

VALUE_BYTES_MAX: Final = 65_536


class Quarantined(NamedTuple):
    """One stream entry that was not posted, and why."""

    stream_id: str
    reason: Reason
    detail: str
    fields: Sequence[tuple[bytes, bytes]]


def keep(connection: Connection, rows: Sequence[Quarantined]) -> None:
    """Keeps the entries; one that is kept already, from a delivery before this one, is not kept twice.

    Stream ids begin anew where upstream chose them itself and Redis was lost: other content under a known id is kept
    under that id and its hash.
    """
    if not rows:
        return
    connection.execute(
        """
        insert into refill.quarantine (stream_id, reason, detail, fields)
        select i.stream_id || case when q.fields <> i.fields then ' ' || md5(i.fields::text) else '' end,
               i.reason, i.detail, i.fields
        from unnest(%b::text[], %b::text[], %b::text[], %b::text[]::jsonb[]) as i(stream_id, reason, detail, fields)
        left join refill.quarantine q on q.stream_id = i.stream_id
        on conflict (stream_id) do nothing
        """,
        (
            [row.stream_id for row in rows],
            [row.reason for row in rows],
            [row.detail for row in rows],
            [fields_as_json(row.fields) for row in rows],
        ),
    )


def fields_as_json(fields: Sequence[tuple[bytes, bytes]]) -> str:
    """The fields without loss, as the module says."""
    return orjson.dumps([_lossless("name", name) | _lossless("value", value) for name, value in fields]).decode()


def _lossless(key: str, value: bytes) -> dict[str, str | int]:
    if len(value) > VALUE_BYTES_MAX:
        cut = _encoded(key, value[:VALUE_BYTES_MAX])
        return cut | {f"{key}_bytes": len(value), f"{key}_sha256": hashlib.sha256(value).hexdigest()}
    return _encoded(key, value)


def _encoded(key: str, value: bytes) -> dict[str, str | int]:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # PostgreSQL's jsonb cannot hold it
        return {f"{key}_base64": base64.b64encode(value).decode()}
    return {key: text}
