"""What the modules of commands are made of: groups, single commands, and the session that a command works in."""

from __future__ import annotations

import getpass
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import structlog
import typer

from config.settings import load_settings
from jobs.ledger.database import Connection, check_schema, connect
from worker.cli.invocation import Invocation
from worker.console import Printer

if TYPE_CHECKING:
    from jobs.gateway.stripe import StripeGateway


class _Plain(TypedDict):
    add_completion: bool
    pretty_exceptions_enable: bool
    rich_markup_mode: None


# Plain help is quicker to show and to read than boxes.
_PLAIN: _Plain = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


def group(sentence: str) -> typer.Typer:
    """A command with sub-commands, even where there is only one."""
    app = typer.Typer(help=sentence, **_PLAIN)
    app.callback()(lambda: None)
    return app


def single() -> typer.Typer:
    """A command of its own: the one function registered with ``@app.command()``."""
    return typer.Typer(**_PLAIN)


def example(*lines: str) -> str:
    """The epilog of a command's help: how it is typed, each line as it is."""
    return "\n".join(["\b", "Example:", *(f"  {line}" for line in lines)])


@dataclass(frozen=True, slots=True)
class Session:
    """One command at work: what it says goes through ``printer``; ``actor`` is who typed it, as entries name them."""

    printer: Printer
    actor: str

    @classmethod
    def of(cls, context: typer.Context) -> Session:
        """The session of this command. Its log lines are not heard below warning: the answer says what was done."""
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
        invocation = context.find_object(Invocation) or Invocation()
        return cls(Printer(invocation.as_json), operator())

    @contextmanager
    def ledger(self) -> Iterator[Connection]:
        """A connection to a database of this release. Raises ``SettingsError`` and the errors of ``connect``."""
        with connect(load_settings(require=["database_url"]).needed("database_url")) as connection:
            check_schema(connection)
            yield connection

    def gateway(self) -> StripeGateway:
        """The card processor. Raises ``SettingsError`` where there is no key for one."""
        from jobs.gateway.stripe import StripeGateway  # its SDK takes a second to import

        settings = load_settings(require=["stripe_api_key"])
        key = settings.stripe_api_key
        return StripeGateway(
            key.get_secret_value() if key else "", settings.stripe_api_base, settings.gateway_timeout_s
        )


def operator() -> str:
    """Who is at the command line: the login name, and behind sudo the name of whoever called it."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in many containers
        name = f"uid-{os.getuid()}"
    return f"operator:{ascii(name)[1:-1][:48]}"
