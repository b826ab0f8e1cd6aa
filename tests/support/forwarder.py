"""A process that passes TCP connections on, for tests to cut, or to bring a service to where it may be asked.

Killing it ends every connection through it and refuses new ones; SIGSTOP makes the line silent, as a cut cable does.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

from tests.support.processes import ROOT, clean_environment
from tests.support.waiting import eventually
from worker.embedded.ports import LOOPBACK, choose_port

_CHUNK = 65_536


class Forwarder:
    """A port of ``listen`` to one of ``host``. As a context it runs; it can be cut and mended meanwhile.

    ``inside`` is a command that starts it somewhere else, in a network namespace for example.
    """

    def __init__(
        self, host: str, target: int, port: int = 0, *, listen: str = LOOPBACK, inside: Sequence[str] = ()
    ) -> None:
        self._host = host
        self._target = target
        self._listen = listen
        self._inside = inside
        self.port = port or choose_port(0, "")

    def mend(self) -> None:
        """Starts it."""
        ends = [self._listen, str(self.port), self._host, str(self._target)]
        here = [sys.executable, "-m", "tests.support.forwarder", *ends]
        self._process = subprocess.Popen(
            [*self._inside, *here], cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def cut(self) -> None:
        """Ends every connection through it."""
        self._process.kill()
        self._process.communicate()

    def silence(self) -> None:
        """Passes nothing on and says nothing, until it is cut."""
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Forwarder:
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        eventually(lambda: self._process.returncode is not None)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError as error:
        sys.stderr.write(f"{error}\n")
    finally:
        writer.close()


async def _serve(listen: str, port: int, host: str, target: int) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(host, target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer))

    server = await asyncio.start_server(forward, listen, port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
