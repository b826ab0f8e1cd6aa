"""`refill up`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from config.settings import load_settings
from worker import logs
from worker.cli.parts import example, single
from worker.up import up

app = single()


@app.command("up", epilog=example("refill up --demo"))
def _up(
    demo: Annotated[bool, typer.Option("--demo", help="With sample accounts and a stream of sample spends.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where it keeps everything.", show_default=".refill")
    ] = None,
) -> None:
    """Run every process under one supervisor; what has no URL in the environment is embedded under DIR.

    When everything is ready, DIR/refill.env says where. Ctrl-C stops all in order; the data stays for the next start.
    """
    settings = load_settings()
    logs.configure("up", settings.log_format, settings.log_level)
    raise typer.Exit(up(settings, data or settings.data, demo))
