"""``python -m jobs.gateway.sandbox --port 0 --data FILE``: prints one JSON line with the port once it answers.

The API key that it accepts is STRIPE_API_KEY, or ``sk_test_sandbox``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import structlog

from jobs.errors import RefillError
from jobs.gateway.sandbox import serve

DEFAULT_KEY = "sk_test_sandbox"


def main() -> int:
    """Run the sandbox; the exit status follows the contract."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.gateway.sandbox", description="A card processor for tests and demos."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (loopback)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 for any free one")
    parser.add_argument("--data", type=Path, required=True, help="file that keeps the state")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        serve(options.host, options.port, options.data, os.environ.get("STRIPE_API_KEY") or DEFAULT_KEY, _started)
    except RefillError as error:
        sys.stderr.write(json.dumps({"event": "sandbox.refused", "code": error.code, "error": str(error)}) + "\n")
        return error.exit_status
    return 0


def _started(port: int) -> None:
    sys.stdout.write(json.dumps({"event": "sandbox.started", "port": port}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
