"""`refill demo`: the sample story that `refill up --demo` runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import structlog

from config.settings import Settings, load_settings
from jobs.ledger.database import check_schema, connect
from worker import logs
from worker.cli.parts import single
from worker.demo import TOLD_AFTER_S, Character, Demo, prepare, told
from worker.outside import outside
from worker.stopping import StopRequest

app = single()
log = structlog.get_logger()

_REST_S = 3_600


@app.command("demo")
def _demo() -> None:
    """Make a few sample accounts and send sample spends; say where to look. Runs until stopped."""
    settings = load_settings(require=["database_url", "redis_url", "stripe_api_key", "mail"])
    logs.configure("demo", settings.log_format, settings.log_level)
    stop = StopRequest()
    stop.listen()
    around = outside(settings)
    with connect(settings.needed("database_url"), application="refill demo") as connection:
        check_schema(connection)
        players = prepare(connection, around.gateway)
        log.info("demo.started", accounts=[player.account for player in players])
        _tell_once(Demo(connection, around.stream, settings.mail_dir), players, settings, stop)
    if not stop.is_set:
        log.info("demo.finished")
    while not stop.is_set:  # its supervisor would start a process that ended again
        stop.wait(_REST_S)


def _tell_once(demo: Demo, players: list[Character], settings: Settings, stop: StopRequest) -> None:
    began, is_told = time.monotonic(), False
    for found in demo.run(players, stop):
        if not is_told and (found.is_whole or time.monotonic() - began > TOLD_AFTER_S):
            is_told = True
            command = _command(settings)
            log.info("demo.told", mail=found.mail, invoice_number=found.invoice_number, charge_id=found.charge_id)
            if sys.stdout.isatty() or settings.log_format == "console":
                sys.stdout.write(f"\n{told(found, command)}\n\n")
                sys.stdout.flush()


def _command(settings: Settings) -> str:
    """How refill is called from this directory: the program, and where its data lies unless that is found anyway."""
    program = Path(sys.argv[0]).absolute()
    here = Path.cwd()
    shown = program.relative_to(here) if program.is_relative_to(here) else program
    is_default = settings.data.absolute() == here / ".refill"
    return str(shown) if is_default else f"REFILL_DATA={settings.data} {shown}"
