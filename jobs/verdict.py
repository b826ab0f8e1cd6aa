"""The answer of `refill explain` in one sentence, in plain words. Pure: from what was gathered, for its moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from jobs.evidence import AttemptLine, ChargeLine, Explanation, Ruling
from jobs.money import format_money
from jobs.throttle import DECLINED, LATER_TRY, SUCCEEDED, UNDER_WAY

RECENT: Final = timedelta(hours=24)
LATE: Final = timedelta(minutes=2)  # four sweeps: a worker that runs has looked by then

_OPEN: Final = {
    "throttled": "waits for its turn",
    "reserved": "is reserved and has not been sent yet",
    "created": "is prepared at the processor and has not been confirmed yet",
    "confirming": "was sent and has no answer yet",
    "processing": "is being processed by the bank",
    "unknown": "has no known outcome yet, and is read at the processor until it has one",
    "needs_review": "needs a person",
}
_ENDED: Final = {
    "succeeded": "succeeded",
    "declined": "was declined",
    "needs_customer": "was declined, as the holder is to authenticate",
    "cancelled": "was cancelled without taking money",
}


def sentence(seen: Explanation) -> str:
    """The one-sentence answer. The first that applies of: no account yet, closed, under way, not needed, ruled."""
    if seen.at < seen.opened_at:
        return f"Not recharged: the account was opened later, at {clock(seen.opened_at, seen.at)}."
    if seen.closed_at is not None and seen.closed_at <= seen.at:
        return f"Not recharged: the account was closed at {clock(seen.closed_at, seen.at)}."
    if seen.recharge_below is None:
        return "Not recharged: no trigger is set, so there is no balance below which it would be."
    open_charge = next((c for c in seen.charges if _is_open(c, seen.at)), None)
    if open_charge is not None:
        return _under_way(seen, open_charge)
    if seen.standing.projected >= seen.recharge_below:
        return _not_needed(seen, seen.recharge_below)
    if seen.ruling is None:
        return f"Not recharged: {_below(seen, seen.recharge_below)}, and nothing had been decided yet{_due(seen)}."
    return _ruled(seen, seen.ruling)


def clock(moment: datetime, at: datetime) -> str:
    """``02:15 UTC``, with the day where it is another one than that of `at`."""
    utc = moment.astimezone(UTC)
    return f"{utc:%H:%M} UTC" if utc.date() == at.astimezone(UTC).date() else f"{utc:%Y-%m-%d %H:%M} UTC"


def lapse(span: timedelta) -> str:
    """A length of time in its two largest units at most: ``40 s``, ``12 min``, ``3 h 5 min``, ``9 days``."""
    seconds = max(int(span.total_seconds()), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 1:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} days" if days > 1 else f"1 day {hours % 24} h"


def _is_open(charge: ChargeLine, at: datetime) -> bool:
    return charge.opened_at <= at and (charge.ended_at is None or charge.ended_at > at)


def _under_way(seen: Explanation, charge: ChargeLine) -> str:
    credits_bought = seen.program.show(charge.credits)
    begun = f"charge {charge.charge_id} over {format_money(charge.total)} for {credits_bought}"
    ago = f"opened {lapse(seen.at - charge.opened_at)} before"
    if charge.ended_at is not None:
        how = f"{_ENDED.get(charge.state, charge.state)} at {clock(charge.ended_at, seen.at)}"
        return f"A recharge was under way: {begun}, {ago}, was open; it {how}{_invoice(charge)}."
    why = f": {charge.detail}" if charge.detail and charge.state in ("unknown", "needs_review") else ""
    return (
        f"A recharge is under way: {begun}, {ago.replace('before', 'ago')}, {_OPEN.get(charge.state, 'is open')}{why}."
    )


def _not_needed(seen: Explanation, recharge_below: int) -> str:
    balance = seen.program.show(seen.standing.balance)
    enough = f"{balance} {_were(seen)} not below the trigger of {seen.program.show(recharge_below)}"
    settled = [c for c in seen.charges if c.state == "succeeded" and c.ended_at is not None and c.ended_at <= seen.at]
    latest = max(settled, key=lambda c: c.ended_at or c.opened_at, default=None)
    if latest is None or latest.ended_at is None or seen.at - latest.ended_at > RECENT:
        return f"No recharge {'was' if seen.is_past else 'is'} due: {enough}."
    brought = f"charge {latest.charge_id} brought {seen.program.show(latest.credits)} for {format_money(latest.amount)}"
    ago = f"{lapse(seen.at - latest.ended_at)} {'before' if seen.is_past else 'ago'}"
    return f"Recharged {ago}: {brought}{_invoice(latest)}; {enough}."


def _ruled(seen: Explanation, ruling: Ruling) -> str:
    match ruling.verdict:
        case "recharge" if ruling.decided_at is None:
            return f"Not recharged yet: a recharge of {seen.program.show(ruling.credits)} is due now{_due(seen)}."
        case "recharge" | "charge_open":
            return f"Not recharged: {_how_it_ended(seen, ruling)}{_due(seen)}."
        case "above_trigger":
            below = _below(seen, seen.recharge_below or 0)
            return f"Not recharged: {below}, and that had not been looked at yet{_due(seen)}."
        case "card_cooling" | "card_attempts":
            return f"Not recharged: {_card_held(seen, ruling)}; {_again(seen, ruling)}."
        case "paused":
            return f"Not recharged: recharge is paused for {_card(seen)} until somebody acts ({ruling.reason})."
        case "cap_month" | "cap_day":
            return f"Not recharged: {ruling.reason}; {_again(seen, ruling)}."
        case "off":
            return f"Not recharged: {ruling.reason}{_who_switched_off(seen)}."
        case _:
            return f"Not recharged: {ruling.reason}."


def _how_it_ended(seen: Explanation, ruling: Ruling) -> str:
    charge = next((c for c in seen.charges if c.charge_id == ruling.charge_id), None)
    if charge is None or charge.ended_at is None:
        return ruling.reason
    declined = next((a for a in seen.attempts if a.charge_id == charge.charge_id and a.meaning), None)
    why = (declined.meaning if declined is not None else charge.detail) or ""
    how = f"charge {charge.charge_id} over {format_money(charge.total)} {_ENDED.get(charge.state, charge.state)}"
    return f"{how} at {clock(charge.ended_at, seen.at)}{f' ({why})' if why else ''}, and nothing was decided since"


def _card_held(seen: Explanation, ruling: Ruling) -> str:
    if ruling.reason == UNDER_WAY:
        return f"an attempt on {_card(seen)} {_were(seen, 'is', 'was')} under way{_for(seen, _in_flight(seen))}"
    finished = max((a for a in seen.attempts if _finished(a, seen.at)), key=_finish, default=None)
    if finished is None or finished.finished_at is None or ruling.reason not in (SUCCEEDED, DECLINED, LATER_TRY):
        return ruling.reason.replace("the card", _card(seen), 1)
    ago = f"{lapse(seen.at - finished.finished_at)} {'before' if seen.is_past else 'ago'}"
    if finished.state == "succeeded":
        return f"{_card(seen)} was charged {ago}{_for(seen, finished)}"
    return f"{_card(seen)} was declined {ago}{_for(seen, finished)}: {finished.meaning}"


def _in_flight(seen: Explanation) -> AttemptLine | None:
    flying = (
        a for a in seen.attempts if a.reserved_at <= seen.at and (a.finished_at is None or a.finished_at > seen.at)
    )
    return next(flying, None)


def _finished(attempt: AttemptLine, at: datetime) -> bool:
    return attempt.state != "released" and attempt.finished_at is not None and attempt.finished_at <= at


def _finish(attempt: AttemptLine) -> datetime:
    return attempt.finished_at or attempt.reserved_at


def _for(seen: Explanation, attempt: AttemptLine | None) -> str:
    if attempt is None:
        return ""
    others = [name for name in attempt.accounts if name != seen.account]
    whose = "" if seen.account in attempt.accounts or not others else f" for {', '.join(others[:3])}"
    return f"{whose} (charge {attempt.charge_id})"


def _again(seen: Explanation, ruling: Ruling) -> str:
    if ruling.next_at is None and ruling.verdict.startswith("cap_"):
        return "one recharge alone costs more than the cap, so it does not fit until one of them is changed"
    if ruling.next_at is None:
        return "it is looked at again every 15 minutes"
    away = f"in {lapse(ruling.next_at - seen.at)}" if not seen.is_past else f"{lapse(ruling.next_at - seen.at)} later"
    what = "the next period begins" if ruling.verdict.startswith("cap_") else "it may be tried again"
    return f"{what} at {clock(ruling.next_at, seen.at)} ({away}){_due(seen)}"


def _due(seen: Explanation) -> str:
    """The alarm that nobody works: the account's time came, and no evaluation followed."""
    if seen.is_past or seen.due_at is None or seen.at - seen.due_at < LATE:
        return ""
    return f"; it has waited {lapse(seen.at - seen.due_at)} for a worker: see `refill status` whether one runs"


def _who_switched_off(seen: Explanation) -> str:
    change = next((c for c in seen.changes if not c.is_later and "enabled" in c.after), None)
    if change is None or change.after["enabled"] is not False:
        return ""
    return f" (by {change.actor} at {clock(change.at, seen.at)})"


def _below(seen: Explanation, recharge_below: int) -> str:
    balance = seen.program.show(seen.standing.balance)
    return f"{balance} {_were(seen)} below the trigger of {seen.program.show(recharge_below)}"


def _were(seen: Explanation, present: str = "are", past: str = "were") -> str:
    return past if seen.is_past else present


def _card(seen: Explanation) -> str:
    if seen.card is None:
        return "the card"
    return f"the {'manager’s ' if seen.card.payer == 'manager' else ''}card ending {seen.card.last4}"


def _invoice(charge: ChargeLine) -> str:
    return "" if charge.invoice_number is None else f" (invoice {charge.invoice_number})"
