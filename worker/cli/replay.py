"""`refill replay`"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from config.settings import load_settings
from jobs.errors import Malformed
from worker import replay
from worker.cli.parts import Session, example, single
from worker.console import Column
from worker.replay import OutcomeTotal, Plan
from worker.stream import open_redis
from worker.trace import read_trace

app = single()

_SPENT = "accepted"


@app.command("replay", epilog=example("refill replay requests.csv --program points --accounts 50 --seed 7 --speed max"))
def _replay(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="The trace: a row for each spend.")],
    program: Annotated[str, typer.Option("--program", metavar="P", help="Whose accounts spend.")],
    accounts: Annotated[int, typer.Option("--accounts", metavar="N", min=1, help="How many: the first N by name.")],
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Which account spends which row.")],
    column_amount: Annotated[
        str | None, typer.Option("--column-amount", metavar="A,B", help="The columns to add up.", show_default="found")
    ] = None,
    column_time: Annotated[
        str | None, typer.Option("--column-time", metavar="T", help="When it happened.", show_default="found")
    ] = None,
    speed: Annotated[str, typer.Option("--speed", metavar="X", help="Times as fast as it happened, or max.")] = "max",
    account_prefix: Annotated[
        str, typer.Option("--account-prefix", metavar="TEXT", help="Only accounts named like this.")
    ] = "",
) -> None:
    """Send the spends of a trace to the stream and report what became of them. The same again changes nothing."""
    session = Session.of(context)
    pace = _speed(speed)
    trace = read_trace(file, column_amount.split(",") if column_amount else (), column_time)
    redis_url = load_settings(require=["database_url", "redis_url"]).needed("redis_url")
    with session.ledger() as connection, open_redis(redis_url) as client, _progress(len(trace.rows)) as progress:
        names = replay.accounts_of(connection, program, accounts, account_prefix)
        plan = replay.plan_replay(trace, names, program, seed, account_prefix)
        known_before = sum(total.count for total in replay.outcome_totals(connection, plan))
        began = time.monotonic()
        last_id = replay.send(client, plan, pace, progress.sent)
        totals = replay.wait_for_outcomes(connection, client, plan, last_id, progress.known)
        seconds = time.monotonic() - began
        in_conflict = replay.conflicts(connection, plan)
    _report(session, plan, totals, known_before, in_conflict, seconds)


def _speed(text: str) -> float | None:
    """Times as fast as the trace; None for as fast as it goes."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed > 0):
        raise Malformed(f"--speed must be a number above 0, or max, not {text!r}")
    return speed


class _Bars:
    """Two bars on a terminal: events sent, and outcomes known."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._sent = progress.add_task("sent", total=total)
        self._known = progress.add_task("outcomes", total=total)

    def sent(self, count: int) -> None:
        """So many more were sent."""
        self._progress.advance(self._sent, count)

    def known(self, count: int) -> None:
        """So many outcomes are known in all."""
        self._progress.update(self._known, completed=count)


@contextmanager
def _progress(total: int) -> Iterator[_Bars]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Bars(progress, total)


def _report(
    session: Session,
    plan: Plan,
    totals: Sequence[OutcomeTotal],
    known_before: int,
    in_conflict: int,
    seconds: float,
) -> None:
    spent = sum(total.credits for total in totals if total.outcome == _SPENT)
    asked = sum(total.credits for total in totals)
    summary = {
        "events": len(plan.events),
        "known_before": known_before,
        "conflicts": in_conflict,
        "credits_spent": spent,
        "credits_refused": asked - spent,
        "seconds": round(seconds, 3),
        "events_per_second": round(len(plan.events) / max(seconds, 0.001)),
    }
    if session.printer.as_json:
        outcomes = {total.outcome: total.count for total in totals}
        session.printer.record(summary | {"outcomes": outcomes, "event_id_prefix": plan.prefix})
        return
    columns = [Column("outcome", "outcome"), Column("count", "events", "right"), Column("credits", "credits", "right")]
    session.printer.rows(columns, [asdict(total) for total in totals])
    session.printer.record(summary)
