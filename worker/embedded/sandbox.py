"""The sandbox card processor as an embedded server: where no STRIPE_API_KEY is given, no real card is ever charged."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from worker.embedded.leftovers import MARK
from worker.embedded.ports import LOOPBACK, answers, choose_port
from worker.process import Command

SANDBOX_KEY = "sk_test_sandbox"


class Sandbox:
    """See ``jobs.gateway.sandbox``. Its state is ``DIR/sandbox.db``."""

    name = "sandbox"

    def __init__(self, data: Path, port: int = 0) -> None:
        """Raises ``PortInUse``."""
        self._data = data.resolve()
        self.port = choose_port(port, "REFILL_SANDBOX_PORT")

    @property
    def url(self) -> str:
        """Its API base."""
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        """See ``Server.prepare``; its file takes care of itself."""

    def command(self) -> Command:
        """Its own process, run by the Python of this environment whatever lies in the working directory."""
        arguments = [sys.executable, "-P", "-m", "jobs.gateway.sandbox"]
        return Command(
            arguments=[*arguments, "--port", str(self.port), "--data", str(self._data / "sandbox.db")],
            environment={**os.environ, "STRIPE_API_KEY": SANDBOX_KEY, "PYTHONUNBUFFERED": "1", MARK: str(self._data)},
        )

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return answers(self.port)
