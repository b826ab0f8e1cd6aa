"""`refill run`"""

from __future__ import annotations

from datetime import datetime
from difflib import get_close_matches
from typing import Annotated

import typer

from config.settings import load_settings
from jobs import charge
from jobs.errors import Refused, UsageError
from jobs.ledger.database import Connection, database_now, fetch_one
from worker.cli.moments import parse_moment
from worker.cli.parts import Session, example, single
from worker.outside import outside
from worker.runs import JOBS, Run

app = single()


class UnknownJob(UsageError):
    """No job has this name."""

    code = "unknown_job"


class NotASandbox(Refused):
    """The database is not marked as a sandbox: a job runs for this moment only."""

    code = "not_a_sandbox"


@app.command("run", epilog=example("refill run expiry_sweep", "refill run recharge_sweep --now 2027-01-01"))
def _run(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help=f"One of {', '.join(JOBS)}.")],
    now: Annotated[
        str | None, typer.Option("--now", metavar="T", help="As if it were this moment; in a sandbox only.")
    ] = None,
) -> None:
    """Run one scheduled job here and now, without the queue, and print what it did."""
    session = Session.of(context)
    _check(job)
    settings = load_settings(require=["database_url", "redis_url", "stripe_api_key", "mail"])
    around = outside(settings)
    with session.ledger() as connection:
        moment = _moment(connection, now)

        def drive(charge_id: int) -> None:
            charge.advance(connection, around.gateway, charge_id, around.limits, moment)

        result = JOBS[job](Run(connection, around, drive, moment))
    session.printer.record({"job": job, **result})


def _check(job: str) -> None:
    if job in JOBS:
        return
    near = get_close_matches(job, JOBS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"the jobs are {', '.join(JOBS)}."
    raise UnknownJob(f"There is no job {job!r}; {hint}")


def _moment(connection: Connection, text: str | None) -> datetime | None:
    """The moment that was asked for; None for the present. Raises NotASandbox and Malformed."""
    if text is None:
        return None
    moment = parse_moment(text, database_now(connection))
    if not fetch_one(connection, "select is_sandbox from refill.installation")[0]:
        raise NotASandbox(
            "This database is not marked as a sandbox: --now would write entries of another time into it."
        )
    return moment
