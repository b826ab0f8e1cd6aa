"""The sandbox's own settings, kept in its file: how long processing takes, and how far its clock was moved forward."""

from __future__ import annotations

import time

from jobs.gateway.sandbox.store import Store

PROCESSING_S = 3.0


def now(store: Store) -> float:
    """The sandbox's time, in seconds since 1970: the machine's, moved forward by what was asked for."""
    return time.time() + _get(store, "clock_offset_s", 0.0)


def advance(store: Store, seconds: float) -> None:
    """Move the clock forward."""
    _set(store, "clock_offset_s", _get(store, "clock_offset_s", 0.0) + seconds)


def processing_s(store: Store) -> float:
    """How long an intent stays in processing, in seconds."""
    return _get(store, "processing_s", PROCESSING_S)


def set_processing_s(store: Store, seconds: float) -> None:
    """Set how long intents that go to processing from now on stay there."""
    _set(store, "processing_s", seconds)


def _get(store: Store, name: str, default: float) -> float:
    row = store.row("select value from setting where name = ?", name)
    return default if row is None else float(row[0] or 0)


def _set(store: Store, name: str, value: float) -> None:
    store.run("insert or replace into setting values (?, ?)", name, value)
