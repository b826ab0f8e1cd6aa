"""The sandbox processor as a process of its own, for tests to start, drive, break and kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import cast

import stripe

ROOT = Path(__file__).parents[2]
KEY = "sk_test_of_the_tests"
TIMEOUT_S = 20.0


class Sandbox:
    """One sandbox over one data file. ``kill`` and ``start`` again is a crash; the port stays the same."""

    def __init__(self, data: Path, key: str = KEY) -> None:
        self.data = data
        self.key = key
        self.port = 0
        self._clients: list[stripe.RequestsClient] = []

    @property
    def url(self) -> str:
        """The base address for the SDK."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process and wait until it says on which port it answers."""
        command = [sys.executable, "-m", "jobs.gateway.sandbox", "--port", str(self.port), "--data", str(self.data)]
        environment = {**os.environ, "STRIPE_API_KEY": self.key}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
        assert self._process.stdout is not None
        started = json.loads(self._process.stdout.readline())
        assert started["event"] == "sandbox.started"
        self.port = int(started["port"])

    def kill(self) -> None:
        """``kill -9``."""
        self._process.kill()
        self._ended()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self._process.terminate()
        status = self._ended()
        for client in self._clients:
            client.close()  # type: ignore[no-untyped-call]
        return status

    def _ended(self) -> int:
        status = self._process.wait(timeout=TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status

    def client(self, *, key: str | None = None, timeout_s: float = TIMEOUT_S) -> stripe.StripeClient:
        """The official SDK, unmodified, without retries of its own."""
        http = stripe.RequestsClient(timeout=timeout_s)
        self._clients.append(http)
        return stripe.StripeClient(key or self.key, base_addresses={"api": self.url}, http_client=http)

    def control(self, method: str, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
        """A control call under ``/_sandbox/``; its answer."""
        status, answer = self.http(method, f"/_sandbox/{path}", json.dumps(body or {}))
        assert status == 200, answer
        return answer

    def http(
        self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, object]]:
        """A bare HTTP request: status and JSON body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, cast(dict[str, object], json.loads(response.read()))
        finally:
            connection.close()

    def fault(self, kind: str, path: str = ".", *, count: int = 1, seconds: float = 0.0) -> None:
        """Ask for a fault in the next ``count`` requests whose ``METHOD /path`` matches."""
        self.control("POST", "faults", {"kind": kind, "path": path, "count": count, "seconds": seconds})

    def advance(self, seconds: float) -> None:
        """Move the sandbox's time forward."""
        self.control("POST", "clock", {"advance_s": seconds})

    def requests(self, path: str = "") -> list[dict[str, object]]:
        """The requests received whose path contains ``path``, in order."""
        found = cast(list[dict[str, object]], self.control("GET", "requests?after=0")["data"])
        return [request for request in found if path in str(request["path"])]
