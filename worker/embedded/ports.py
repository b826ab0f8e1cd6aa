"""Ports on loopback."""

from __future__ import annotations

import errno
import random
import socket

from jobs.errors import PortInUse

LOOPBACK = "127.0.0.1"

# Below the range that systems hand out for outgoing connections: a server that is restarted gets its port back.
_FIRST_PORT, _LAST_PORT = 15_000, 31_999
_TRIES = 200


def choose_port(wanted: int, setting: str) -> int:
    """The wanted port, or any free one for 0. ``setting`` is named in the error.

    Raises ``PortInUse``.
    """
    if wanted == 0:
        return _free_port()
    fault = _fault_of(wanted)
    if fault is None:
        return wanted
    if fault == errno.EADDRINUSE:
        raise PortInUse(
            f"{setting} is {wanted}, and this port is taken by another program", setting=setting, port=wanted
        )
    raise PortInUse(f"{setting} is {wanted}, and this port cannot be used: {errno.errorcode[fault]}", setting=setting)


def answers(port: int) -> bool:
    """Whether something accepts connections at this port of loopback."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((LOOPBACK, port)) == 0


def _free_port() -> int:
    chooser = random.SystemRandom()
    for _ in range(_TRIES):
        port = chooser.randint(_FIRST_PORT, _LAST_PORT)
        if _fault_of(port) is None:
            return port
    raise PortInUse(f"no port from {_FIRST_PORT} to {_LAST_PORT} is free")


def _fault_of(port: int) -> int | None:
    """The errno of binding to the port; None where it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.errno
    return None
