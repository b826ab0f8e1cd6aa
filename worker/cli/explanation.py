"""How an explanation looks: one screen, the answer first, then what it rests on, tied together by ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from jobs.evidence import AttemptLine, ChargeLine, DecisionLine, Explanation, MessageLine
from jobs.history import ARCHIVED, HistoryRow
from jobs.money import format_money, format_number
from jobs.program import Program
from jobs.verdict import clock, lapse
from worker.cli.moments import shown_moment
from worker.cli.policy_words import words
from worker.console import Column, Printer, Row

LOTS: Final = (
    Column("order", "", "right"),
    Column("lot", "lot", "right"),
    Column("class", "class"),
    Column("left", "left", "right"),
    Column("granted", "granted", "right"),
    Column("expires", "expires"),
    Column("charge", "charge", "right"),
)
POLICY: Final = (Column("name", "setting"), Column("value", "in effect"), Column("source", "from"))
DECISIONS: Final = (
    Column("at", "decided"),
    Column("verdict", "verdict"),
    Column("projected", "projected", "right"),
    Column("reason", "because"),
    Column("next", "next look"),
    Column("charge", "charge", "right"),
)
CHARGES: Final = (
    Column("charge", "charge", "right"),
    Column("opened", "opened"),
    Column("state", "state now"),
    Column("credits", "credits", "right"),
    Column("amount", "amount", "right"),
    Column("ended", "ended"),
    Column("invoice", "invoice"),
    Column("lot", "lot", "right"),
    Column("intent", "payment intent"),
    Column("detail", "detail"),
)
ATTEMPTS: Final = (
    Column("at", "reserved"),
    Column("charge", "charge", "right"),
    Column("accounts", "for"),
    Column("outcome", "outcome"),
    Column("decline", "because"),
    Column("attempt", "attempt"),
)
MESSAGES: Final = (
    Column("at", "written"),
    Column("kind", "kind"),
    Column("state", "state now"),
    Column("sent", "sent"),
    Column("to", "to"),
    Column("error", "last error"),
    Column("message", "message"),
)
ENTRIES: Final = (
    Column("at", "time"),
    Column("kind", "kind"),
    Column("amount", "amount", "right"),
    Column("balance", "balance", "right"),
    Column("lot", "lot", "right"),
    Column("event", "event"),
    Column("charge", "charge", "right"),
)


def show(found: Explanation, printer: Printer) -> None:
    """Prints the whole of it for a person."""
    for line in (found.sentence, "", *_heading(found)):
        printer.done(line, {})
    _section(printer, LOTS, _lots(found), _lots_title(found))
    _section(printer, POLICY, _policy(found), _policy_title(found))
    _section(printer, DECISIONS, _decisions(found), "Decisions, newest first")
    _section(printer, CHARGES, _charges(found), "Charges, newest first")
    _section(printer, ATTEMPTS, _attempts(found), "Attempts on this card, for any account, newest first")
    _section(printer, MESSAGES, _messages(found), "Messages, newest first")
    _section(printer, ENTRIES, _entries(found), "Entries, newest last")


def _section(printer: Printer, columns: Iterable[Column], rows: Iterator[Row], title: str) -> None:
    """A table without the columns that have nothing in them; one line where it has no rows."""
    found = list(rows)
    printer.done("", {})
    if not found:
        printer.done(f"{title}: none", {})
        return
    filled = [column for column in columns if any(row[column.key] not in (None, "") for row in found)]
    printer.rows(filled, found, title=title, compact=True)


def _heading(found: Explanation) -> Iterator[str]:
    program, stands = found.program, found.standing
    kind = f"{program.name}, tier {found.tier}" if found.tier else program.name
    yield f"{found.account} of {found.organisation} ({kind}) at {shown_moment(found.at)}; all times are UTC"
    pending = f" with {program.show(stands.pending)} from the open charge" if stands.pending else ""
    yield f"  balance    {program.show(stands.balance)}, {_alert_state(found)}; projected {_number(found)}{pending}"
    yield f"  levels     alert {_level(program, found.alert_below)}; recharge {_level(program, found.recharge_below)}"
    yield f"  card       {_card(found)}"
    if found.due_at is not None and not found.is_past:
        yield f"  next look  {_due(found, found.due_at)}"


def _number(found: Explanation) -> str:
    return format_number(found.standing.projected, found.program.decimals)


def _alert_state(found: Explanation) -> str:
    return "closed" if found.closed_at is not None and found.closed_at <= found.at else found.state


def _level(program: Program, level: int | None) -> str:
    return "not set" if level is None else f"below {program.show(level)}"


def _due(found: Explanation, due_at: datetime) -> str:
    if due_at > found.at:
        return f"at {clock(due_at, found.at)} (in {lapse(due_at - found.at)})"
    return f"since {clock(due_at, found.at)} ({lapse(found.at - due_at)} ago)"


def _card(found: Explanation) -> str:
    card = found.card
    if card is None:
        return "none"
    whose = ", the manager's" if card.payer == "manager" else ""
    stop = f"; stopped now ({card.stop}): {card.stop_reason}" if card.stop else ""
    return f"{card.brand} ending {card.last4}{whose} (fingerprint {card.fingerprint}){stop}"


def _lots_title(found: Explanation) -> str:
    hidden = found.standing.lots_count - len(found.standing.lots)
    more = f"; {hidden:,} more not shown" if hidden else ""
    return f"Lots in the order in which they are drawn{more}"


def _lots(found: Explanation) -> Iterator[Row]:
    for order, lot in enumerate(found.standing.lots, start=1):
        yield {
            "order": f"{order}.",
            "lot": _id(lot.lot_id),
            "class": lot.lot_class,
            "left": format_number(lot.remaining, found.program.decimals),
            "granted": format_number(lot.granted, found.program.decimals),
            "expires": "never" if lot.expires_at is None else _time(found, lot.expires_at),
            "charge": _id(lot.charge_id),
        }


def _policy_title(found: Explanation) -> str:
    lines = ["Policy in effect"]
    for change in found.changes:
        when = f"{_time(found, change.at)}{', after this moment' if change.is_later else ''}"
        lines.append(f"set {when} by {change.actor}")
    return "; ".join(lines)


def _policy(found: Explanation) -> Iterator[Row]:
    given = {line.name for line in found.policy if line.value is not None}
    for line in found.policy:
        if line.name == ("target" if "target" not in given else "amount"):
            continue  # an amount and a target are one choice
        shown = words(found.program, line.value)
        yield {
            "name": line.name.replace("_", " "),
            "value": "not set" if shown is None else shown,
            "source": f"{line.source} (locked)" if line.locked else line.source,
        }


def _decisions(found: Explanation) -> Iterator[Row]:
    for line in found.decisions:
        yield {
            "at": _decided(found, line),
            "verdict": line.verdict,
            "projected": format_number(line.projected, found.program.decimals),
            "reason": line.reason,
            "next": _time(found, line.next_at),
            "charge": _id(line.charge_id),
        }


def _decided(found: Explanation, line: DecisionLine) -> str:
    later = "later: " if line.is_later else ""
    still = f" to {line.seen_at:%H:%M:%S}" if line.seen_at > line.at else ""
    return f"{later}{_time(found, line.at)}{still}"


def _charges(found: Explanation) -> Iterator[Row]:
    for line in found.charges:
        yield {
            "charge": _id(line.charge_id),
            "opened": _time(found, line.opened_at),
            "state": line.state,
            "credits": format_number(line.credits, found.program.decimals),
            "amount": _amount(line),
            "ended": _time(found, line.ended_at),
            "invoice": line.invoice_number,
            "lot": _id(line.lot_id),
            "intent": line.payment_intent,
            "detail": None if line.state == "declined" else line.detail,  # the attempt below says it
        }


def _amount(line: ChargeLine) -> str:
    shared = "" if line.total == line.amount else f" of {format_money(line.total)}"
    return f"{format_money(line.amount)}{shared}"


def _attempts(found: Explanation) -> Iterator[Row]:
    for line in found.attempts:
        yield {
            "at": _time(found, line.reserved_at),
            "charge": _id(line.charge_id),
            "accounts": _names(line),
            "outcome": _outcome(found, line),
            "decline": _decline(found, line),
            "attempt": line.attempt_id,
        }


def _outcome(found: Explanation, line: AttemptLine) -> str:
    again = "re-attempt " if line.is_reattempt else ""
    return f"{again}{line.state} {_time(found, line.finished_at) or ''}".rstrip()


def _decline(found: Explanation, line: AttemptLine) -> str | None:
    """The code of a decline, what it means, and the wait that it asks for."""
    if line.meaning is None:
        return None
    wait = "" if line.next_attempt_at is None else f", not before {_time(found, line.next_attempt_at)}"
    return f"{line.decline or 'no code'}: {line.meaning}{wait}"


def _names(line: AttemptLine) -> str:
    more = len(line.accounts) - 3
    return ", ".join(line.accounts[:3]) + (f" and {more} more" if more > 0 else "")


def _messages(found: Explanation) -> Iterator[Row]:
    for line in found.messages:
        yield {
            "at": _time(found, line.created_at),
            "kind": line.kind,
            "state": _state(line),
            "sent": _time(found, line.sent_at),
            "to": line.to_address,
            "error": line.last_error,
            "message": line.message_id,
        }


def _state(line: MessageLine) -> str:
    return f"{line.state}, {line.attempts} tries" if line.attempts > 1 else line.state


def _entries(found: Explanation) -> Iterator[Row]:
    return (_entry(found, row) for row in found.entries)


def _entry(found: Explanation, row: HistoryRow) -> Row:
    decimals = found.program.decimals
    return {
        "at": _time(found, row.at),
        "kind": row.kind,
        "amount": ("+" if row.amount > 0 else "") + format_number(row.amount, decimals),
        "balance": format_number(row.balance_after, decimals),
        "lot": _id(row.lot_id),
        "event": row.memo if row.kind == ARCHIVED else row.event_id,
        "charge": _id(row.charge_id),
    }


def _id(value: int | None) -> str | None:
    """Ids carry no separators, so that they can be searched for as they stand."""
    return None if value is None else str(value)


def _time(found: Explanation, moment: datetime | None) -> str | None:
    """The time of a moment, with the day where it is another one than that of the heading."""
    if moment is None:
        return None
    is_same_day = moment.astimezone(UTC).date() == found.at.astimezone(UTC).date()
    return f"{moment:%H:%M:%S}" if is_same_day else f"{moment:%Y-%m-%d %H:%M:%S}"
