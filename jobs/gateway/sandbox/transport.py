"""HTTP/1.1 on the wire: one thread per connection, kept alive, each answer sent at once."""

from __future__ import annotations

import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

import structlog

from jobs.gateway.sandbox.desk import Desk, Request
from jobs.gateway.sandbox.store import Closed
from jobs.gateway.sandbox.wire import Answer, invalid, server_error

BODY_MAX = 1_000_000
log = structlog.get_logger()


class Server(ThreadingHTTPServer):
    """Listens on one address; connections die with the process."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, desk: Desk) -> None:
        self.desk = desk
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the host's name that the standard class does, which may wait for DNS."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection ended badly, most often because the client went away before its answer."""
        log.warning("sandbox.connection_lost", error=repr(sys.exception()))


class Handler(BaseHTTPRequestHandler):
    """Reads a request, asks the desk, writes the answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment
    server: Server

    def do_GET(self) -> None:
        """A request that reads."""
        self._handle()

    def do_POST(self) -> None:
        """A request that changes something."""
        self._handle()

    def do_DELETE(self) -> None:
        """A request that removes something."""
        self._handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Nothing on standard error: requests are in the sandbox's own log."""

    def _handle(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > BODY_MAX:
            self.close_connection = True
            self._send(invalid(f"Content-Length must be a number up to {BODY_MAX}.").answer, None)
            return
        request = self._request(self.rfile.read(int(length)))
        answer = self._answer(request)
        if answer is None:
            self._drop()
        else:
            self._send(answer, request)

    def _request(self, body: bytes) -> Request:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, path, query.encode("latin-1"), body, headers)

    def _answer(self, request: Request) -> Answer | None:
        try:
            return self.server.desk.answer(request)
        except Closed:
            return None
        except Exception:
            log.exception("sandbox.request_failed", method=request.method, path=request.path)
            return server_error()

    def _send(self, answer: Answer, request: Request | None) -> None:
        body = json.dumps(answer.body, indent=2).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in {**_about(request), **answer.headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _about(request: Request | None) -> dict[str, str]:
    if request is None:
        return {}
    headers = {"Request-Id": request.request_id, "Stripe-Version": request.version}
    return headers if request.idempotency_key is None else {**headers, "Idempotency-Key": request.idempotency_key}
