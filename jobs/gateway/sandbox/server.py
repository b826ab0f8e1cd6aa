"""Run the sandbox until it is told to stop."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.errors import PortInUse
from jobs.gateway.sandbox.desk import Desk
from jobs.gateway.sandbox.store import Store
from jobs.gateway.sandbox.transport import Server

STOP_POLL_S = 0.02


def serve(host: str, port: int, path: Path, api_key: str, on_ready: Callable[[int], None]) -> None:
    """Answer on ``host:port`` (port 0: any free one) until SIGTERM or SIGINT, with state in the file ``path``.

    Call it in the main thread, as signals want. ``on_ready`` is told the port once connections are accepted. Raises
    PortInUse where the port is taken and DataUnusable where the file cannot hold the state.
    """
    stopping = threading.Event()
    store = Store(path)
    try:
        server = _bound(host, port, Desk(store, api_key))
        with server, _set_by_signals(stopping):
            accepting = threading.Thread(target=server.serve_forever, args=(STOP_POLL_S,), daemon=True)
            accepting.start()
            on_ready(server.server_port)
            stopping.wait()
            server.shutdown()
    finally:
        store.close()


def _bound(host: str, port: int, desk: Desk) -> Server:
    try:
        return Server(host, port, desk)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortInUse(f"Port {port} on {host} is taken by another program.", port=port) from error


@contextmanager
def _set_by_signals(stopping: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set the event while this lasts."""
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
