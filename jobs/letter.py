"""What a message says: a row of `refill.message` becomes a mail with a subject, plain text and HTML.

The templates hold the words, one per kind; this module gives them numbers in the form that people read. Both bodies
are made of the same three parts, so that they never differ: what happened, the facts, what happens next and what to
do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from babel.dates import format_datetime as format_moment
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError, select_autoescape

from jobs.errors import RefillError
from jobs.money import Money, format_money
from jobs.program import Program

Recharge = Literal["on", "off", "no_card"]
Facts = list[tuple[str, str]]

MESSAGE_ID_DOMAIN: Final = "refill"
_SUBJECT_CHARACTERS_MAX: Final = 200

_templates: Final = Environment(
    loader=PackageLoader("jobs"),
    autoescape=select_autoescape(enabled_extensions=("html.j2",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


class LetterFailed(RefillError):
    """The message cannot be written: its data, its address or its template is wrong."""

    code = "letter_failed"


@dataclass(frozen=True, slots=True)
class Message:
    """A message with what its letter needs. ``data`` is by kind, as the transaction of its cause wrote it."""

    message_id: str
    kind: str
    to_address: str
    data: Mapping[str, Any]
    program: Program
    recharge: Recharge
    recharge_below: int | None


def write_letter(message: Message, mail_from: str, now: datetime) -> EmailMessage:
    """The mail, dated ``now``. Its Message-ID is the message's own, so that a second delivery is known for one.

    Raises LetterFailed, with the reason, where it cannot be written.
    """
    try:
        words = _words(message)
        return _mail(message, words, mail_from, now)
    except (TemplateError, MessageError, KeyError, TypeError, ValueError, RefillError) as error:
        raise LetterFailed(f"The {message.kind} message cannot be written: {type(error).__name__}: {error}") from error


def _mail(message: Message, words: Mapping[str, Any], mail_from: str, now: datetime) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = _one_line(words["subject"])[:_SUBJECT_CHARACTERS_MAX]
    mail["From"] = _sender(mail_from, message.program.seller.name)
    mail["To"] = Address(addr_spec=message.to_address)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message.message_id}@{MESSAGE_ID_DOMAIN}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine shall answer it
    mail.set_content(_templates.get_template("letter.txt.j2").render(words))
    mail.add_alternative(_templates.get_template("letter.html.j2").render(words), subtype="html")
    return mail


def _words(message: Message) -> dict[str, Any]:
    """Every word of the letter: the parts that the template of its kind wrote, and the facts."""
    shown = _shown(message)
    parts = _templates.get_template(f"{message.kind}.j2").make_module(shown)
    facts = _FACTS[message.kind](shown)
    return {
        "subject": str(getattr(parts, "subject")),  # noqa: B009  a template's name, not an attribute of ours
        "opening": str(getattr(parts, "opening")),  # noqa: B009
        "next": str(getattr(parts, "next")),  # noqa: B009
        "facts": facts,
        "width": max(len(label) for label, _ in facts),
        "seller": message.program.seller.name,
    }


def _shown(message: Message) -> dict[str, Any]:
    """The data as people read it; what the data lacks stays out, and a template that needs it fails."""
    data, program = message.data, message.program
    shown: dict[str, Any] = {name: _one_line(str(data[name])) for name in _TEXTS if data.get(name) is not None}
    shown |= {name: program.show(int(data[name])) for name in _CREDITS if data.get(name) is not None}
    if "amount_minor" in data:
        shown["amount"] = format_money(Money(int(data["amount_minor"]), str(data["currency"])))
    if message.recharge_below is not None:
        shown["recharge_below"] = program.show(message.recharge_below)
    return shown | {
        "title": program.title,
        "recharge": message.recharge,
        "card": _card(data),
        "next_attempt_at": _moment(data.get("next_attempt_at"), program.time_zone),
    }


_TEXTS: Final = ("account", "invoice_number", "reason", "charge_id")
_CREDITS: Final = ("balance", "alert_below", "credits")


def _level_facts(shown: Mapping[str, Any]) -> Facts:
    level = [("Alert level", shown["alert_below"])] if "alert_below" in shown else []
    return [("Account", shown["account"]), ("Balance", shown["balance"]), *level]


def _payment_facts(shown: Mapping[str, Any]) -> Facts:
    return [
        ("Account", shown["account"]),
        ("Credit added", shown["credits"]),
        ("Balance", shown["balance"]),
        ("Paid", f"{shown['amount']} with {shown['card']}"),
        ("Invoice", shown["invoice_number"]),
        ("Charge", shown["charge_id"]),
    ]


def _decline_facts(shown: Mapping[str, Any]) -> Facts:
    return [
        ("Account", shown["account"]),
        ("Balance", shown["balance"]),
        ("Amount", shown["amount"]),
        ("Card", shown["card"]),
        ("Reason", shown["reason"]),
        ("Charge", shown["charge_id"]),
    ]


def _pause_facts(shown: Mapping[str, Any]) -> Facts:
    return [
        ("Account", shown["account"]),
        ("Balance", shown["balance"]),
        ("Card", shown["card"]),
        ("Reason", shown["reason"]),
    ]


_FACTS: Final[Mapping[str, Callable[[Mapping[str, Any]], Facts]]] = {
    "low": _level_facts,
    "depleted": _level_facts,
    "recharge_succeeded": _payment_facts,
    "declined": _decline_facts,
    "paused": _pause_facts,
}


def _card(data: Mapping[str, Any]) -> str:
    if not data.get("last4"):
        return "the saved card"
    brand = _one_line(str(data.get("brand") or "card")).replace("_", " ")
    return f"{brand[:1].upper()}{brand[1:]} ending in {_one_line(str(data['last4']))}"


def _moment(text: str | None, time_zone: str) -> str | None:
    """A moment in the program's own time, with its zone: ``23 November 2026, 14:05 (America/New_York)``."""
    if text is None:
        return None
    local = datetime.fromisoformat(text).astimezone(ZoneInfo(time_zone))
    return f"{format_moment(local, 'd MMMM yyyy, HH:mm', locale='en')} ({time_zone})"


def _sender(mail_from: str, seller: str) -> Address:
    name, address = parseaddr(mail_from)
    return Address(display_name=_one_line(name or seller), addr_spec=address)


def _one_line(text: str) -> str:
    """Without line breaks and control characters: what comes from outside never begins a header or a line of its
    own."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
