"""``refill up``: everything in one terminal. What has a URL in the environment is used, what has none is embedded.

    lock ─► servers ─► release ─► example programs ─► processes ─► refill.env ─► ... ─► stop, in this order:
    processes, sandbox, redis, postgres

Stopping, dying and starting again never lose data: every process may be killed at any moment, this one too. On Linux
the kernel then ends its children; what is left elsewhere is ended by the next start on the same directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import redis
import structlog

from config.settings import Settings
from jobs.errors import RedisUnavailable, Refused
from worker.embedded.leftovers import MARK, end_marked
from worker.embedded.server import Server, failure
from worker.environment import Surroundings, environment_file, remove_stale_file, surroundings
from worker.output import Output, silence_standard_output
from worker.process import Command
from worker.procfile import packaged_procfile, read_procfile, search_path
from worker.stream import open_redis
from worker.supervisor import Process, Supervisor

log = structlog.get_logger()

_RELEASE = "release"
_MIGRATE = ["refill", "migrate"]
_DEMO = "demo"
_PROGRAMS = Path(__file__).parents[1] / "config" / "programs"
_READY_TIMEOUT_S = 60.0
_POLL_S = 0.01
# Later than every process of refill; among themselves in the reverse order of their start.
_SERVER_STOP_RANKS = {"sandbox": 10, "redis": 11, "postgres": 12}
_DEMO_STOP_RANK = -1
_SIGNALLED = 128  # what shells add to the number of the signal that ended a process


class AlreadyRunning(Refused):
    """Another `refill up` runs on this directory."""

    code = "already_running"


def up(
    settings: Settings,
    data: Path,
    demo: bool,
    *,
    environ: Mapping[str, str] | None = None,
    procfile: Path | None = None,
    stop_timeout_s: float = 20.0,
) -> int:
    """Run everything until a signal ends it; the exit status.

    ``environ`` is the environment that says what is given (this process's own by default): ``settings`` cannot, because
    they may come from the ``refill.env`` of a run that was killed.
    Raises ``AlreadyRunning``, ``PortInUse``, ``ServerFailed`` and other ``RefillError``; nothing is left running then.
    """
    data = data.absolute()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(data):
        end_marked(data)
        remove_stale_file(data)
        around = surroundings(os.environ if environ is None else environ, settings, data)
        processes = read_procfile(procfile or packaged_procfile())
        output = Output(_is_readable(settings))
        with output.for_own_lines("up"), Supervisor(output, stop_timeout_s) as supervisor:
            run = _Run(supervisor, around, processes, data, output, settings)
            status = _unless_unheard(run, supervisor, demo)
        log.info("up.stopped", data=str(data))
    return status


def _unless_unheard(run: _Run, supervisor: Supervisor, demo: bool) -> int:
    """Run; where the terminal or the pipe that takes the output has gone, stop in order without a word."""
    try:
        return run.run(demo)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        silence_standard_output()
        supervisor.stop()
        return 1


class _Run:
    """One run, from the first server to the last signal."""

    def __init__(
        self,
        supervisor: Supervisor,
        around: Surroundings,
        processes: Mapping[str, list[str]],
        data: Path,
        output: Output,
        settings: Settings,
    ) -> None:
        self._output = output
        self._says_nothing = settings.log_level not in ("debug", "info")  # then nobody says that it started
        self._supervisor = supervisor
        self._around = around
        self._processes = processes
        self._ours = {name for name, command in processes.items() if name != _RELEASE and command[0] == "refill"}
        self._data = data
        self._environment = {
            **around.environment,
            MARK: str(data.resolve()),
            "PATH": search_path(Path(sys.executable).parent),
            "PYTHONUNBUFFERED": "1",
            "REFILL_LOG_FORMAT": "console" if output.readable else "json",
        }

    def run(self, demo: bool) -> int:
        """Start everything, wait for the signal; 0, or the exit status of a step that failed."""
        started = time.monotonic()
        self._start_servers()
        status = self._run_steps(demo)
        if self._supervisor.stopping:
            return 0
        if status:
            return status
        if self._ours:
            _check_redis(self._environment["REDIS_URL"])
            _check_broker(self._environment.get("REFILL_BROKER_URL"))
        self._start_processes(demo)
        if not self._processes_are_up():
            return 0
        with environment_file(self._data, self._around.environment) as path:
            log.info(
                "up.ready",
                environment=str(path),
                mail=self._around.environment.get("MAIL_DIR", "by SMTP"),
                logs=str(self._data),
                duration_ms=round((time.monotonic() - started) * 1000),
            )
            self._supervisor.run()
            self._supervisor.stop()
        return 0

    def _start_servers(self) -> None:
        """All at once; PostgreSQL comes last, so that the others start while its cluster is made."""
        for server in self._around.servers:
            rank = _SERVER_STOP_RANKS[server.name]
            self._supervisor.start(Process(server.name, server.command(), server.prepare, rank))
        for server in self._around.servers:
            self._await(server)

    def _await(self, server: Server) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self._supervisor.stopping and not server.is_ready():
            if self._supervisor.ends(server.name) or time.monotonic() > deadline:
                raise failure(server.name, server.command().log)
            self._supervisor.pump(_POLL_S)
        if not self._supervisor.stopping:
            log.info("server.ready", server=server.name, port=server.port)

    def _run_steps(self, demo: bool) -> int:
        """The release line, then the example programs into a database of our own, or for a demo; the first status that
        is not 0."""
        status = 0 if self._supervisor.stopping else self._run_release()
        wants_examples = demo or self._around.has_own_database
        if status or self._supervisor.stopping or not wants_examples:
            return status
        return self._load_examples()

    def _run_release(self) -> int:
        """The Procfile's line; it also marks the database of a sandbox as one, where jobs may be run for any moment."""
        arguments = self._processes.get(_RELEASE)
        if arguments is None:
            return 0
        if arguments == _MIGRATE and self._around.is_sandbox:
            arguments = [*_MIGRATE, "--sandbox"]
        return self._run_once(_RELEASE, arguments)

    def _load_examples(self) -> int:
        if not _is_without_programs(self._environment["DATABASE_URL"]):
            return 0
        return self._run_once("programs", ["refill", "program", "load", *map(str, sorted(_PROGRAMS.glob("*.toml")))])

    def _run_once(self, name: str, arguments: list[str]) -> int:
        status = self._supervisor.run_once(Process(name, self._command(arguments), keep_running=False))
        return status if status >= 0 else _SIGNALLED - status

    def _start_processes(self, demo: bool) -> None:
        for name, arguments in self._processes.items():
            if name != _RELEASE:
                self._supervisor.start(Process(name, self._command(arguments)))
        if demo:
            self._supervisor.start(Process(_DEMO, self._command(["refill", "demo"]), stop_rank=_DEMO_STOP_RANK))

    def _processes_are_up(self) -> bool:
        """Waits until each process of refill has said that it is at work, however often one had to be started again.

        False where a signal came first.
        """
        if self._says_nothing:
            return True
        while not self._ours <= self._output.started:
            if self._supervisor.stopping:
                return False
            self._supervisor.pump(_POLL_S)
        return True

    def _command(self, arguments: list[str]) -> Command:
        return Command(arguments, self._environment)


def _check_redis(url: str) -> None:
    """The release line asks PostgreSQL first; nobody would ask a Redis of somebody else's before it is too late."""
    try:
        with open_redis(url) as client:
            client.ping()
    except redis.RedisError as error:
        raise RedisUnavailable(f"Redis does not answer: {error}") from error


def _check_broker(url: str | None) -> None:
    """As with Redis, where the broker is another one."""
    if url:
        from worker.broker import open_broker  # dear to load, and needed here where there is such a broker only

        open_broker(url).check()


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold the directory. The kernel lets go of it whenever this process ends; no file has to be cleaned up."""
    with (data / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            pid = file.read().strip()
            raise AlreadyRunning(f"another `refill up` (process {pid}) runs on {data}", data=str(data)) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _is_without_programs(url: str) -> bool:
    """Whether the schema is there and holds no program yet."""
    with psycopg.connect(url) as connection:
        migrated = connection.execute("select 1 where to_regclass('refill.program') is not null").fetchone()
        return bool(migrated) and connection.execute("select 1 from refill.program limit 1").fetchone() is None


def _is_readable(settings: Settings) -> bool:
    if settings.log_format == "auto":
        return sys.stdout.isatty()
    return settings.log_format == "console"
