"""Which systems `refill up` uses, which it embeds, and ``refill.env``, where everybody else reads it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from config.settings import ENVIRONMENT_FILE, Settings
from jobs.errors import UsageError
from worker.embedded.postgres import Postgres
from worker.embedded.redis import Redis
from worker.embedded.sandbox import SANDBOX_KEY, Sandbox
from worker.embedded.server import Server

# In the order of the contract. Nothing else of the environment is anybody else's business.
_WRITTEN = (
    "DATABASE_URL",
    "REDIS_URL",
    "REFILL_BROKER_URL",
    "STRIPE_API_BASE",
    "STRIPE_API_KEY",
    "SMTP_URL",
    "MAIL_DIR",
    "REFILL_DATA",
)
# What decides alike for every command; ports and forms of output are each process's own.
_SHARED = frozenset(
    f"REFILL_{name}"
    for name in (
        "CARD_COOLING_SUCCESS_S",
        "CARD_COOLING_FAILURE_S",
        "CARD_ATTEMPTS_24H_MAX",
        "CARD_DECLINES_24H_MAX",
        "CARD_REATTEMPTS_30D_MAX",
        "CARD_BREAKER_DECLINES",
        "SWEEP_INTERVAL_S",
    )
)
_STRIPE_API_BASE = "https://api.stripe.com"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_?&")


class UnwritableValue(UsageError):
    """A setting holds a line break or quotes that refill.env cannot carry."""

    code = "unwritable_value"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The embedded servers in the order of their start, and the environment of every process of refill."""

    servers: tuple[Server, ...]
    environment: Mapping[str, str]

    @property
    def has_own_database(self) -> bool:
        """Whether the ledger lies in the embedded PostgreSQL."""
        return any(isinstance(server, Postgres) for server in self.servers)

    @property
    def is_sandbox(self) -> bool:
        """Whether no real money can be meant: the ledger and the card processor are both embedded."""
        return self.has_own_database and any(isinstance(server, Sandbox) for server in self.servers)


def surroundings(environ: Mapping[str, str], settings: Settings, data: Path) -> Surroundings:
    """What is named in ``environ`` is used; what is not is embedded under ``data``.

    Raises ``PortInUse`` and ``NoServiceUser``.
    """
    given = {name: environ[name] for name in _WRITTEN if environ.get(name)}
    servers: list[Server] = []
    values: dict[str, str] = {"REFILL_DATA": str(data)}
    if "STRIPE_API_KEY" in given:
        values["STRIPE_API_BASE"] = _STRIPE_API_BASE
    elif "STRIPE_API_BASE" in given:
        values["STRIPE_API_KEY"] = SANDBOX_KEY
    else:
        servers.append(Sandbox(data, settings.sandbox_port))
        values |= {"STRIPE_API_BASE": servers[-1].url, "STRIPE_API_KEY": SANDBOX_KEY}
    if "REDIS_URL" not in given:
        servers.append(Redis(data, settings.redis_port))
        values["REDIS_URL"] = servers[-1].url
    if "DATABASE_URL" not in given:
        servers.append(Postgres(data, settings.postgres_port))
        values["DATABASE_URL"] = servers[-1].url
    if "SMTP_URL" not in given and "MAIL_DIR" not in given:
        values["MAIL_DIR"] = str(data / "mail")
    return Surroundings(tuple(servers), {**environ, **values, **given, "REFILL_DATA": str(data)})


@contextlib.contextmanager
def environment_file(data: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """``DIR/refill.env``, there for as long as everything runs: whole at any moment, readable to its owner only.

    Raises ``UnwritableValue``.
    """
    path = data / ENVIRONMENT_FILE
    # The settings of this run too: who asks why a card rests must be told by the limits that it rests by.
    ours = sorted(name for name in environment if name.startswith("REFILL_") and name in _SHARED)
    names = [name for name in (*_WRITTEN, *ours) if environment.get(name)]
    lines = [f"{name}={_quoted(name, environment[name])}\n" for name in names]
    descriptor, draft = tempfile.mkstemp(prefix=f".{ENVIRONMENT_FILE}.", dir=data)  # made with mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.writelines(lines)
    Path(draft).replace(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def remove_stale_file(data: Path) -> None:
    """Remove the ``refill.env`` of a run that was killed: nothing answers at its addresses."""
    (data / ENVIRONMENT_FILE).unlink(missing_ok=True)
    for draft in data.glob(f".{ENVIRONMENT_FILE}.*"):
        draft.unlink(missing_ok=True)


def _quoted(name: str, value: str) -> str:
    """A form that a shell and a reader of .env files both understand."""
    if _PLAIN.issuperset(value) and "&" not in value:
        return value
    if "'" not in value and value.isprintable():
        return f"'{value}'"
    raise UnwritableValue(f"{name} holds a quote or a line break, which {ENVIRONMENT_FILE} cannot carry")
