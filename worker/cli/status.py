"""`refill status`: for the person on call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import typer

from config.schedule import Job, schedule
from config.settings import Settings, load_settings
from jobs import status as ledger_status
from jobs.errors import DatabaseTooOld, DatabaseUnavailable, Refused, SchemaOutdated
from jobs.ledger.database import check_schema, connect
from jobs.money import Money, format_money
from jobs.status import EntryMonths, LedgerStatus
from worker import redis_status
from worker.broker import open_broker
from worker.cli.parts import Session, example, single
from worker.console import Column, Printer, shown
from worker.health import problems
from worker.redis_status import BrokerStatus, RedisStatus, StreamStatus
from worker.stream import open_redis

app = single()


class Unhealthy(Refused):
    """Something needs attention."""

    code = "unhealthy"


@app.command("status", epilog=example("refill status", "refill status --json"))
def _status(context: typer.Context) -> None:
    """Say how refill is, what waits and what needs a person. Exit status 1 with code unhealthy, and why, where it is
    not."""
    session = Session.of(context)
    settings = load_settings(require=["database_url", "redis_url", "broker_url"])
    jobs = tuple(schedule(settings).values())
    streams = _redis(settings)
    try:
        ledger = _ledger(settings, jobs)
    except (DatabaseUnavailable, DatabaseTooOld, SchemaOutdated) as error:
        raise Unhealthy(f"PostgreSQL: {error}", problems=[str(error)]) from error
    found = problems(ledger, streams, jobs)
    if session.printer.as_json:
        session.printer.record(_plain(ledger, streams, found))
    else:
        _show(session.printer, ledger, streams)
    if found:
        raise Unhealthy("\n  ".join(["Something needs attention:", *found]), problems=found)
    session.printer.note("refill is healthy.")


def _ledger(settings: Settings, jobs: Sequence[Job]) -> LedgerStatus:
    with connect(settings.needed("database_url"), application="refill status") as connection:
        check_schema(connection)
        return ledger_status.look(connection, [job.name for job in jobs])


def _redis(settings: Settings) -> RedisStatus:
    broker = open_broker(settings.needed("broker_url"))
    with open_redis(settings.needed("redis_url")) as stream:
        return redis_status.look(stream, broker)


def _plain(ledger: LedgerStatus, streams: RedisStatus, found: Sequence[str]) -> Mapping[str, Any]:
    return {
        "healthy": not found,
        "problems": list(found),
        **asdict(ledger),
        "redis": None if streams.stream is None else {"stream": asdict(streams.stream)},
        "broker": None if streams.broker is None else asdict(streams.broker),
    }


def _show(printer: Printer, ledger: LedgerStatus, streams: RedisStatus) -> None:
    printer.record(_summary(ledger, streams), title=f"refill at {shown(ledger.now)}")
    printer.rows(_JOBS, [asdict(run) for run in ledger.jobs], title="Scheduled jobs")
    _section(printer, _WAITING, [asdict(one) for one in ledger.waiting], "Accounts below their trigger")
    _section(printer, _CHARGES, [asdict(one) for one in ledger.charges], "Open charges")
    _section(
        printer,
        _UNCLEAR,
        [{**asdict(one), "amount": format_money(Money(one.amount_minor, one.currency))} for one in ledger.unclear],
        "Charges that are not clear",
    )
    _section(printer, _CARDS, [asdict(one) for one in ledger.cards], "Cards that are stopped")


def _section(printer: Printer, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], title: str) -> None:
    if rows:
        printer.rows(columns, rows, title=title)


def _summary(ledger: LedgerStatus, streams: RedisStatus) -> dict[str, object]:
    leader = ledger.leader
    is_led = leader is not None and leader.is_leading
    messages = ledger.messages
    return {
        "PostgreSQL": "answers",
        "Redis": "does not answer" if streams.stream is None else "answers",
        "broker": "does not answer" if streams.broker is None else f"{_BROKERS[streams.broker.kind]} answers",
        "leader": f"{leader.name} since {shown(leader.since)}" if leader and is_led else "nobody",
        **({} if streams.stream is None else _stream_lines(streams.stream)),
        **({} if streams.broker is None else {"pokes": _pokes(streams.broker)}),
        "quarantine": f"{ledger.quarantined:,} spend events, {ledger.quarantined_24h:,} in the last day",
        "messages": (
            f"{messages.pending:,} pending, {messages.poisoned:,} poisoned, {messages.unaddressed:,} without address"
        ),
        "events": f"{ledger.events.unpublished:,} to be published",
        "entries": _months(ledger.entry_months),
    }


def _months(months: EntryMonths) -> str:
    made = "no partition for this month" if months.until is None else f"partitions until {shown(months.until)}"
    return made + (", some in the default one" if months.has_strays else "")


def _pokes(broker: BrokerStatus) -> str:
    return ", ".join(f"{count:,} {queue}" for queue, count in broker.queues.items())


def _stream_lines(stream: StreamStatus) -> dict[str, str]:
    more = "more than " if stream.waiting > redis_status.COUNTED_MAX else ""
    counted = min(stream.waiting, redis_status.COUNTED_MAX)
    oldest = "" if stream.oldest_s is None else f", the oldest for {stream.oldest_s:.1f} s"
    return {
        "spend stream": f"{more}{counted:,} unread, {stream.pending:,} read and not posted{oldest}",
        "intakes": f"{stream.intakes} reading",
    }


_BROKERS = {"redis": "Redis", "rabbitmq": "RabbitMQ"}
_JOBS = (
    Column("job", "Job"),
    Column("claimed_at", "Triggered"),
    Column("finished_at", "Ended"),
    Column("result", "Result"),
)
_WAITING = (
    Column("verdict", "Verdict"),
    Column("accounts", "Accounts", "right"),
    Column("next_at", "Next look"),
)
_CHARGES = (
    Column("state", "State"),
    Column("count", "Charges", "right"),
    Column("oldest_at", "Oldest"),
)
_UNCLEAR = (
    Column("charge_id", "Charge", "right"),
    Column("state", "State"),
    Column("accounts", "Accounts"),
    Column("amount", "Amount", "right"),
    Column("payment_intent", "Intent"),
    Column("detail", "Why"),
    Column("next_check_at", "Next look"),
)
_CARDS = (
    Column("fingerprint", "Card"),
    Column("stop", "Stop"),
    Column("stop_reason", "Why"),
    Column("stopped_at", "Since"),
    Column("accounts", "Accounts"),
)
