"""The tree of commands, each imported only when it is called: help of the whole needs none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

EPILOG = "--json anywhere prints one JSON object per line. Exit status: 0 done, 1 refused, 2 wrong usage or settings."


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: the module whose ``app`` it is, and its line in the list of commands."""

    module: str
    summary: str
    hidden: bool = False


def build(entries: Mapping[str, Entry]) -> TyperGroup:
    """The command ``refill`` with these sub-commands."""

    class Commands(TyperGroup):
        """Shows each command by its entry; imports the one that is called."""

        def list_commands(self, ctx: Any) -> list[str]:
            return list(self.commands)

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, _, rest = super().resolve_command(ctx, args)
            return name, None if name is None else get_command(import_module(entries[name].module).app), rest

    app = typer.Typer(
        cls=Commands,
        help="Keeps prepaid balances alive: posts spend, warns before credit runs low, recharges the saved card.",
        epilog=EPILOG,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_refill)
    group = get_group(app)
    for name, entry in entries.items():
        group.add_command(TyperCommand(name, help=entry.summary, hidden=entry.hidden))
    return group


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"refill {version('refill')}")
        raise typer.Exit


def _refill(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and end.")
    ] = False,
) -> None:
    """What every command does first: nothing."""
