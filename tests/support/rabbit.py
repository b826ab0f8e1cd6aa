"""A RabbitMQ of our own for tests: Debian's `rabbitmq-server`, started in a directory, on ports of its own.

The program behind the package's wrapper is run, which any user may; the wrapper runs as root or rabbitmq only, and
always in the package's directories. Erlang's name server (epmd) is our own too: a node would leave one running.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pika
from pika.exceptions import AMQPError

from tests.support.processes import clean_environment
from worker.embedded.ports import LOOPBACK, answers, choose_port
from worker.embedded.server import running
from worker.process import Command

USER, PASSWORD = "refill", "of-the-tests"
_DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def missing() -> str | None:
    """Why there is no RabbitMQ here, or None where there is one."""
    if _program() is None:
        return "rabbitmq-server is not installed (Debian: apt-get install rabbitmq-server)"
    return None if shutil.which("epmd") else "epmd, Erlang's name server, is not on PATH"


class RabbitMQ:
    """A node for clients on loopback and on the addresses of ``also_on``. It is always killed: stopping takes long."""

    name = "rabbitmq"

    def __init__(self, directory: Path, names_port: int, also_on: Sequence[str] = ()) -> None:
        self._directory = directory / "rabbitmq"
        self._names_port = names_port
        self._addresses = [LOOPBACK, *also_on]
        self._node_port = choose_port(0, "")
        self.port = choose_port(0, "")

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{PASSWORD}@{LOOPBACK}:{self.port}/"

    def prepare(self) -> None:
        self._directory.mkdir(exist_ok=True)
        listeners = [f"listeners.tcp.{n} = {address}:{self.port}" for n, address in enumerate(self._addresses, 1)]
        settings = [f"default_user = {USER}", f"default_pass = {PASSWORD}", "disk_free_limit.absolute = 1MB"]
        (self._directory / "rabbitmq.conf").write_text("\n".join([*listeners, *settings, ""]))

    def command(self) -> Command:
        home = str(self._directory)
        environment = {
            "HOME": home,
            "RABBITMQ_NODENAME": f"refill-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/none",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
        }
        log = self._directory.parent / "rabbitmq.log"
        return Command(
            [str(_program())], clean_environment(**environment), self._directory, log=log, stop_signal=signal.SIGKILL
        )

    def is_ready(self) -> bool:
        if not answers(self.port):
            return False
        try:
            with pika.BlockingConnection(pika.URLParameters(self.url)):
                return True
        except AMQPError:
            return False


class NameServer:
    """Erlang's name server, for our node alone."""

    name = "epmd"
    url = ""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = choose_port(0, "")

    def prepare(self) -> None:
        self._directory.mkdir(exist_ok=True)

    def command(self) -> Command:
        arguments = ["epmd", "-port", str(self.port), "-address", LOOPBACK]
        return Command(arguments, dict(os.environ), log=self._directory / "epmd.log")

    def is_ready(self) -> bool:
        return answers(self.port)


@contextmanager
def rabbitmq(directory: Path, also_on: Sequence[str] = ()) -> Iterator[RabbitMQ]:
    """A node that is not started yet, in a directory of its own: a test starts and ends it as it likes."""
    names = NameServer(directory)
    with running(names):
        yield RabbitMQ(directory, names.port, also_on)


def empty(url: str) -> None:
    """Removes every queue of refill."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for queue in ("charges", "mail", "ledger"):
            channel.queue_delete(f"refill.pokes.{queue}")
            channel.queue_delete(f"refill.pokes.{queue}.dead")


def _program() -> str | None:
    return str(_DEBIAN) if _DEBIAN.exists() else shutil.which("rabbitmq-server")
