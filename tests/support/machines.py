"""Machines for tests of several: network namespaces where this system lets us make them, else a directory each.

    this system: the services, on loopback and on a bridge      10.x.y.1
        machine a: a namespace with one line to the bridge      10.x.y.11
        machine b                                               10.x.y.12

Nothing routes between the bridge and any other network. A machine has its own loopback and host name; its line can be
cut as a cable is. Where namespaces cannot be made, a machine is a directory and processes, and has no line to cut.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Interface
from pathlib import Path

from tests.support.forwarder import Forwarder
from tests.support.processes import REFILL, Processes, Running, clean_environment
from worker.embedded.ports import LOOPBACK

NAMES = ("a", "b")
_NAMED = 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"'


class Line:
    """The bridge, with a namespace for each machine. `close` removes it all."""

    kind = "network namespaces"

    def __init__(self) -> None:
        """Raises ``subprocess.CalledProcessError`` where this system does not allow it."""
        chooser = random.SystemRandom()
        self._id = f"{chooser.randrange(16**5):05x}"
        self.network = IPv4Interface(f"10.{chooser.randrange(200, 255)}.{chooser.randrange(1, 255)}.1/24")
        self._bridge = f"rfbr{self._id}"
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", str(self.network), "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for number, name in enumerate(NAMES, 11):
                self._add(name, f"{self.network.ip + (number - 1)}/24")
        except subprocess.CalledProcessError:
            self.close()
            raise

    def namespace(self, name: str) -> str:
        return f"refill-{self._id}-{name}"

    def inside(self, name: str) -> list[str]:
        """The command that runs another in the machine of this name."""
        return ["ip", "netns", "exec", self.namespace(name), "unshare", "--uts", "sh", "-c", _NAMED, name]

    def set(self, name: str, state: str) -> None:
        """Cuts the machine's line (``down``) or mends it (``up``)."""
        _ip("link", "set", self._end(name), state)

    def close(self) -> None:
        for name in NAMES:
            subprocess.run(["ip", "netns", "delete", self.namespace(name)], capture_output=True)
            subprocess.run(["ip", "link", "delete", self._end(name)], capture_output=True)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True)

    def _end(self, name: str) -> str:
        return f"rf{name}{self._id}"

    def _add(self, name: str, address: str) -> None:
        space = self.namespace(name)
        _ip("netns", "add", space)
        _ip("link", "add", self._end(name), "type", "veth", "peer", "name", "line", "netns", space)
        _ip("link", "set", self._end(name), "master", self._bridge, "up")
        _ip("-n", space, "address", "add", address, "dev", "line")
        _ip("-n", space, "link", "set", "line", "up")
        _ip("-n", space, "link", "set", "lo", "up")


class Place:
    """Where the machines of one test module are: on a line, or beside each other."""

    def __init__(self, line: Line | None, why_not: str = "") -> None:
        self.line = line
        self._why_not = why_not

    @property
    def kind(self) -> str:
        """Which of the two it is, and why where it is the lesser one."""
        return self.line.kind if self.line else f"separate processes and directories ({self._why_not})"

    @property
    def network(self) -> IPv4Interface | None:
        return self.line.network if self.line else None

    def seen(self, url: str) -> str:
        """The URL of a service of this system, as a machine must write it."""
        return url.replace(LOOPBACK, str(self.line.network.ip)) if self.line else url


class Machine:
    """One machine: an intake, a scheduler and a worker in one environment and directory."""

    def __init__(
        self, name: str, place: Place, processes: Processes, directory: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._place = place
        self._processes = processes
        self._directory = directory / name
        self._directory.mkdir()
        self._environment = {**environment, "REFILL_DATA": str(self._directory / "data")}
        self.running: dict[str, Running] = {}

    def launch(self, *commands: str) -> None:
        """Starts processes."""
        for command in commands:
            self.running[command] = self._processes.start(
                [*self._inside(), REFILL, command], clean_environment(**self._environment), self._directory
            )

    def is_at_work(self) -> None:
        """Returns when each of its processes says so."""
        for command, process in self.running.items():
            process.wait_for_event(f"{command}.started")

    def kill(self, *commands: str) -> None:
        """kill -9."""
        for command in commands:
            self.running[command].kill()

    def freeze(self) -> None:
        """All its processes stand still."""
        for process in self.running.values():
            process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """They go on."""
        for process in self.running.values():
            process.signal(signal.SIGCONT)

    def stop(self) -> list[int]:
        """SIGTERM to all at once; their exit statuses."""
        for process in self.running.values():
            process.signal(signal.SIGTERM)
        return [process.wait() for process in self.running.values()]

    def is_from_here(self, text: str, command: str) -> bool:
        """Whether a name of a process (`host:pid`, `host-pid-random`) is that of this machine's process."""
        return str(self.running[command].pid) in text.replace("-", ":").split(":")

    def _inside(self) -> Sequence[str]:
        return self._place.line.inside(self.name) if self._place.line else []


@contextmanager
def place() -> Iterator[Place]:
    """Namespaces where they can be made."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        yield Place(None, "namespaces need root, ip and unshare")
        return
    try:
        line = Line()
    except subprocess.CalledProcessError as error:
        yield Place(None, f"no namespaces here: {error.stderr.strip()}")
        return
    try:
        yield Place(line)
    finally:
        line.close()


@contextmanager
def processor_everywhere(place: Place, port: int) -> Iterator[None]:
    """Brings the sandbox, which plain HTTP reaches on loopback only, to the loopback of every machine."""
    with ExitStack() as stack:
        if place.line is not None:
            address = str(place.line.network.ip)
            bridge = stack.enter_context(Forwarder(LOOPBACK, port, listen=address))
            for name in NAMES:
                stack.enter_context(Forwarder(address, bridge.port, port, inside=place.line.inside(name)))
        yield


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
