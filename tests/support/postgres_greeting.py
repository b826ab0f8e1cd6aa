"""A process that says it is PostgreSQL of some version, and no more than that: the start-up of its wire protocol.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
"""

from __future__ import annotations

import socketserver
import subprocess
import sys
from types import TracebackType

PROTOCOL_3 = 196608


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def _parameter(name: str, value: str) -> bytes:
    return _message(b"S", f"{name}\0{value}\0".encode())


def greeting(version: str) -> bytes:
    """Authentication without a password, the parameters of the session, and readiness."""
    parameters = {"server_version": version, "client_encoding": "UTF8", "standard_conforming_strings": "on"}
    return b"".join(
        [
            _message(b"R", (0).to_bytes(4, "big")),
            *(_parameter(name, value) for name, value in parameters.items()),
            _message(b"Z", b"I"),
        ]
    )


class _Greeter(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while (length := int.from_bytes(self.rfile.read(4), "big")) and self._answer(self.rfile.read(length - 4)):
            pass

    def _answer(self, body: bytes) -> bool:
        """Refuses encryption until the client speaks plainly, greets it, and waits for it to leave."""
        if int.from_bytes(body[:4], "big") >> 16 != PROTOCOL_3 >> 16:
            self.wfile.write(b"N")
            return True
        self.wfile.write(greeting(sys.argv[1]))
        self.rfile.read(1)
        return False


class OldPostgres:
    """The process; as a context, the URL under which it greets."""

    def __init__(self, version: str) -> None:
        self._version = version

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._version], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        port = int(self._process.stdout.readline())
        return f"postgresql://postgres@127.0.0.1:{port}/refill"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Greeter) as server:
        server.daemon_threads = True
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    _serve()
