"""A whole refill for one test: `refill up` without sample spends, its command line, its ledger and its stream."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import redis
from dotenv import dotenv_values

from tests.support.processes import REFILL, Processes, Running, clean_environment
from tests.support.waiting import eventually


class Refill:
    """A running `refill up` over one data directory, and what its users do with it."""

    def __init__(self, processes: Processes, data: Path, environment: Mapping[str, str] | None = None) -> None:
        self._processes = processes
        self.data = data
        self._extra = dict(environment or {})

    def start(self) -> Running:
        """Starts it and waits until it is ready; what it stored before is still there."""
        self.up = self._processes.refill("up", "--data", self.data, environment=self._extra)
        self.up.wait_for_event("up.ready", timeout=60)
        self.environment = {k: v or "" for k, v in dotenv_values(self.data / "refill.env").items()}
        return self.up

    def pids(self) -> dict[str, int]:
        """The newest process of each name."""
        return {event["name"]: event["pid"] for event in self.up.events("process.started")}

    def command(self, *arguments: str | Path, status: int = 0) -> list[dict[str, Any]]:
        """Runs a command with --json; its lines. Fails where it ends with another exit status."""
        done = subprocess.run(
            [str(REFILL), *map(str, arguments), "--json"],
            env=clean_environment(**self.environment),
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == status, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]

    def account(
        self, name: str, *, organisation: str = "acme", card: str = "ok", granted: int = 1_000, **policy: object
    ) -> None:
        """An account of points with credit, a card and recharge switched on."""
        self.command("organisation", "create", organisation, "--program", "points")
        self.command(
            "account", "open", name, "--organisation", organisation, "--program", "points",
            "--email", f"{name}@example.com",
        )  # fmt: skip
        self.command("grant", name, str(granted), "--reason", "welcome")
        self.command("card", "add", name, "--test-card", card)
        settings: dict[str, object] = {"alert-below": 500, "recharge-below": 300, "amount": 1_000} | policy
        options = [text for option, value in settings.items() for text in (f"--{option}", str(value))]
        self.command("policy", "set", name, *options, "--on")

    def send(self, account: str, amount: object, event_id: str, **fields: object) -> None:
        """One spend event into the stream, as upstream sends it."""
        with redis.Redis.from_url(self.environment["REDIS_URL"]) as client:
            event = {"id": event_id, "account": account, "amount": amount} | fields
            client.xadd("refill:spend", {name: str(value) for name, value in event.items()})

    def rows(self, query: LiteralString, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True) as connection:
            return connection.execute(query, params).fetchall()

    def one(self, query: LiteralString, *params: object) -> Any:
        """The one value of a query, or None where it has no row."""
        rows = self.rows(query, *params)
        return rows[0][0] if rows else None

    def outcome(self, event_id: str, timeout: float = 20) -> str:
        """What became of an event, waiting for it."""
        query: LiteralString = "select outcome from refill.spend_outcome where event_id = %s"
        return str(eventually(lambda: self.one(query, event_id), timeout))

    def mails(self) -> list[Message]:
        """The mails delivered so far."""
        folder = Path(self.environment["MAIL_DIR"])
        return [message_from_bytes(file.read_bytes()) for file in sorted(folder.glob("*.eml"))]
