"""The way from a spend to its charge, leg by leg, from what every part of it writes down by itself.

Redis' MONITOR shows when the event, the poke and its delivery passed through it; the ledger and the processor keep
times of their own; the logs have the rest. All of it is by the clock of one machine. Traffic is watched in a run of its
own, because being watched costs.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from jobs.ledger.database import connect
from tests.bench.live import Live, Sent

_POKED = re.compile(rb'^\+(\d+\.\d+) \[[^\]]*\] "(?:evalsha|EVALSHA)" .*?"enqueue".*"([0-9a-f-]{36})" "(\{.*)"$')
_ARGS = re.compile(rb'\\"actor_name\\":\\"evaluate\\",\\"args\\":\[(\d+)\]')
_FETCHED = re.compile(rb'^\+(\d+\.\d+) \[[^\]]* lua\] "hmget" "[^"]*" (.*)$', re.IGNORECASE)
_ADDED = re.compile(rb'^\+(\d+\.\d+) \[[^\]]*\] "xadd" "refill:spend" .*"event-(\d+)"', re.IGNORECASE)

LEGS: Sequence[tuple[str, str, str]] = (
    ("due", "added", "upstream: due to in the stream"),
    ("added", "posted", "intake: read, locked"),
    ("posted", "seen", "intake: posted and committed"),
    ("seen", "poked", "heard from Postgres, put into the queue"),
    ("poked", "fetched", "taken by the worker"),
    ("fetched", "opened", "thread, connection, card and account locked"),
    ("opened", "reserved", "decided and written"),
    ("reserved", "created", "committed; create received"),
    ("created", "adopted", "create answered"),
    ("adopted", "started", "confirmation committed"),
    ("started", "confirmed", "confirm received"),
)
"""Each leg: from, to, in words."""


class Monitor:
    """What passes through Redis inside the block, as raw lines; read only afterwards, so that it costs little."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname, where.port or 6379))
        self._socket.sendall(f"AUTH {where.password}\r\nMONITOR\r\n".encode())
        self._chunks: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendall(b"QUIT\r\n")  # what is on its way comes first
        self._thread.join()
        self._socket.close()

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self._chunks).split(b"\r\n")

    def _read(self) -> None:
        while chunk := self._socket.recv(65_536):
            self._chunks.append(chunk)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One account on its way: the moments by name, in seconds since 1970."""

    account: str
    account_id: int
    at: Mapping[str, float]

    def ms(self, first: str, last: str) -> float:
        """From one moment to another."""
        return (self.at[last] - self.at[first]) * 1_000


def crossings(refill: Live, sent: Sent) -> list[Crossing]:
    """What the ledger, the logs and the processor say about each account that crossed."""
    received = _received(refill)
    logged = _logged(refill)
    with connect(refill.url) as connection:
        rows = connection.execute(_CHARGES).fetchall()
    found = []
    for account, account_id, charge_id, attempt_id, posted, opened in rows:
        number = sent.crossings[account]
        at = {
            "due": sent.due[number],
            "seen": sent.seen[number],
            "posted": posted,
            "opened": opened,
            **{moment: logged[event, charge_id] for moment, event in _LOGGED.items()},
            "created": received[f"{attempt_id}:create"],
            "confirmed": received[f"{attempt_id}:confirm"],
        }
        found.append(Crossing(account, account_id, at))
    return found


def with_pokes(found: Sequence[Crossing], sent: Sent, lines: Sequence[bytes]) -> list[Crossing]:
    """Those that went the way of a poke, with the moments at which Redis saw the event, the poke and its delivery."""
    added, poked, fetched = _through_redis(lines)
    return [_with_poke(one, added[sent.crossings[one.account]], poked[one.account_id], fetched) for one in found]


def _with_poke(one: Crossing, added: float, poke: tuple[float, bytes], fetched: Mapping[bytes, float]) -> Crossing:
    at, message_id = poke
    return replace(one, at={**one.at, "added": added, "poked": at, "fetched": fetched[message_id]})


def _through_redis(
    lines: Sequence[bytes],
) -> tuple[dict[int, float], dict[int, tuple[float, bytes]], dict[bytes, float]]:
    added: dict[int, float] = {}
    poked: dict[int, tuple[float, bytes]] = {}
    fetched: dict[bytes, float] = {}
    for line in lines:
        if found := _ADDED.match(line):
            added[int(found[2])] = float(found[1])
        elif found := _POKED.match(line):
            if args := _ARGS.search(found[3]):
                poked.setdefault(int(args[1]), (float(found[1]), found[2]))
        elif found := _FETCHED.match(line):
            for message_id in re.findall(rb'"([0-9a-f-]{36})"', found[2]):
                fetched[message_id] = float(found[1])
    return added, poked, fetched


def _received(refill: Live) -> dict[str, float]:
    return {str(request["idempotency_key"]): float(str(request["at"])) for request in refill.sandbox.requests()}


def _logged(refill: Live) -> dict[tuple[str, int], float]:
    events: list[dict[str, Any]] = refill.processes["worker"].events()
    return {
        (event["event"], event["charge_id"]): datetime.fromisoformat(event["timestamp"]).timestamp()
        for event in events
        if event.get("event") in _LOGGED.values()
    }


_LOGGED = {"reserved": "charge.reserved", "adopted": "charge.created", "started": "attempt.started"}

_CHARGES = """
select a.name, a.account_id, c.charge_id, t.attempt_id::text, extract(epoch from s.posted_at)::float8,
       extract(epoch from c.opened_at)::float8
from refill.charge c
join refill.charge_line l using (charge_id)
join refill.account a on a.account_id = l.account_id
join refill.attempt t using (charge_id)
join refill.spend_event s on s.account_id = a.account_id
"""
