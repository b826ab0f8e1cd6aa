"""`refill sandbox`"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from config.settings import load_settings
from jobs.gateway.sandbox import serve
from worker.cli.parts import example, single

DEFAULT_KEY = "sk_test_sandbox"

app = single()


@app.command("sandbox", epilog=example("refill sandbox --port 12111 --data sandbox.sqlite"))
def _sandbox(
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="The file that keeps its state.")],
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65_535, help="0: any free one.")] = 0,
) -> None:
    """Run the sandbox card processor on loopback until it is stopped. It accepts the key in STRIPE_API_KEY."""
    key = load_settings().stripe_api_key
    serve("127.0.0.1", port, data, key.get_secret_value() if key else DEFAULT_KEY, _started)


def _started(port: int) -> None:
    sys.stdout.write(json.dumps({"event": "sandbox.started", "port": port}) + "\n")
    sys.stdout.flush()
