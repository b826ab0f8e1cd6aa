"""Every event that refill logs: its level, what it means and what to do, and its own fields.

``refill settings --events`` prints it, and a test holds it to the code in both directions. To log a new event, add a
line here, in the group of its first word. Every line also carries ``timestamp``, ``level``, ``event`` and
``process``, the fields bound for the row at hand, and ``traceback`` where an exception is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error", "critical", "any"]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """``level`` (``any``: that of what is passed on), ``meaning`` in the past tense, and what to do where one
    must."""

    level: Level
    meaning: str
    fields: tuple[str, ...] = ()


_EVENTS: dict[str, LogEvent] = {
    "account.closed": LogEvent(
        "info", "An account was closed; its credit stays on the books.", ("account", "organisation", "actor")
    ),
    "account.opened": LogEvent(
        "info", "An account was opened.", ("account", "organisation", "program", "tier", "actor")
    ),
    "archive.created": LogEvent(
        "info", "A month of entries was moved to a file. Keep it.", ("month", "path", "sha256", "count", "actor")
    ),
    "archive.restored": LogEvent("info", "A month of entries was put back.", ("month", "path", "count", "actor")),
    "attempt.started": LogEvent(
        "info",
        "The card network was asked for the money; from here on only reading the intent says how it went.",
        ("charge_id", "attempt_id", "payment_intent"),
    ),
    "broker.connection_dropped": LogEvent("debug", "A dead connection to RabbitMQ was given up.", ("error",)),
    "card.blocked": LogEvent(
        "info",
        "An operator blocked a card on every account.",
        ("fingerprint", "actor", "before"),
    ),
    "card.needs_operator": LogEvent(
        "error",
        "A decline says that our request is wrong for this card. Correct the program or the set-up, then unblock it.",
        ("fingerprint", "charge_id", "reason"),
    ),
    "card.stopped": LogEvent(
        "warning",
        "A card is not charged again, by any account, until its holder gives another one or an operator unblocks it.",
        ("fingerprint", "stop", "reason"),
    ),
    "card.saved": LogEvent(
        "info",
        "A card was saved for an account.",
        ("account", "fingerprint", "actor"),
    ),
    "card.unblocked": LogEvent(
        "info",
        "An operator unblocked a card; it can be charged again.",
        ("fingerprint", "actor", "before"),
    ),
    "charge.cancelled": LogEvent(
        "warning",
        "A charge was given up before any money moved; the reason says why.",
        ("charge_id", "fingerprint", "reason"),
    ),
    "charge.created": LogEvent(
        "info",
        "The processor made an unconfirmed payment intent; no money moved yet.",
        ("charge_id", "attempt_id", "payment_intent"),
    ),
    "charge.declined": LogEvent(
        "warning",
        "A card was declined: what its issuer said, what that means, and when it may be tried again.",
        ("charge_id", "fingerprint", "decline", "action", "reason", "next_at"),
    ),
    "charge.refused": LogEvent(
        "error",
        "The processor will not take a request as it stands: a wrong key, perhaps, or a customer deleted there.",
        ("charge_id", "payment_intent", "error"),
    ),
    "charge.unreadable": LogEvent(
        "warning",
        "A charge that waits for a person could not be read at the processor; it is read again within the hour.",
        ("charge_id", "payment_intent", "error"),
    ),
    "charge.needs_review": LogEvent(
        "error",
        "A charge could not be brought to its end by itself. Compare it with the processor's dashboard.",
        ("charge_id", "payment_intent", "amount_minor", "currency", "reason"),
    ),
    "charge.reserved": LogEvent(
        "info",
        "A charge and its attempt were written, caps and throttle counted; nothing was sent yet.",
        ("charge_id", "attempt_id", "account", "event_id", "fingerprint", "credits", "amount_minor", "currency"),
    ),
    "charge.resolved": LogEvent(
        "info",
        "An intent was read at the processor to learn what became of a charge.",
        ("charge_id", "payment_intent", "status", "state"),
    ),
    "charge.settled": LogEvent(
        "info",
        "Money arrived: the credit was granted and the invoice numbered, in one transaction.",
        (
            "charge_id",
            "payment_intent",
            "account",
            "credits",
            "amount_minor",
            "currency",
            "lot_id",
            "invoice_number",
            "message_id",
        ),
    ),
    "charge.waiting": LogEvent(
        "warning",
        "A charge has no answer yet and is looked at again at `next_at`; nothing is charged meanwhile.",
        ("charge_id", "state", "reason", "next_at"),
    ),
    "credit.expired": LogEvent(
        "info", "A sweep booked the remainders of dead lots as breakage.", ("lots", "credits", "accounts")
    ),
    "credit.granted": LogEvent("info", "An operator granted credit.", ("account", "lot_id", "amount", "actor")),
    "demo.account_left_out": LogEvent(
        "warning",
        "A sample account could not be made, perhaps because its program is not loaded; the demo goes on without it.",
        ("account", "code", "error"),
    ),
    "demo.finished": LogEvent("info", "The sample spends came to their end; everything else goes on."),
    "demo.mail_sent": LogEvent("info", "A mail of the demo was delivered; this is where it lies.", ("mail", "kind")),
    "demo.recharged": LogEvent(
        "info", "A sample account was recharged and has its invoice.", ("invoice_number", "charge_id", "amount")
    ),
    "demo.spend_posted": LogEvent("info", "The first sample spend is in the ledger.", ("event_id",)),
    "demo.started": LogEvent("info", "The sample accounts are there; their spends begin.", ("accounts",)),
    "demo.told": LogEvent("info", "The demo said where everything lies.", ("mail", "invoice_number", "charge_id")),
    "dependency.lost": LogEvent(
        "error",
        "Redis, RabbitMQ or Postgres does not do its work. Said once; it is tried until it does. Nothing is lost.",
        ("dependency", "code", "error"),
    ),
    "dependency.regained": LogEvent("info", "It works again, after so long.", ("dependency", "duration_ms")),
    "directory.opened": LogEvent(
        "info", "A directory was opened to the user that the embedded database runs as.", ("path", "right", "user")
    ),
    "events.published": LogEvent(
        "info", "Events were written to the stream `refill:events`, up to `seq`.", ("count", "seq")
    ),
    "events.stream_lost": LogEvent(
        "warning",
        "The event stream had lost its end, so the last events were written again; readers skip what they have.",
        ("seq", "repeated"),
    ),
    "expiry.failed": LogEvent(
        "error",
        "Booking the expiry of one account failed; the others went on. It is tried again; look into the error.",
        ("account_id", "error"),
    ),
    "intake.consumer_removed": LogEvent(
        "info", "A consumer that was silent and had nothing pending was removed from its group.", ("consumer",)
    ),
    "intake.group_created": LogEvent(
        "warning",
        "The stream had no group, because it is new or because Redis was emptied; it is read from its first entry.",
    ),
    "intake.left_pending": LogEvent(
        "warning",
        "The intake was asked to stop and could not post all that it had read. Another intake takes the rest over.",
        ("error",),
    ),
    "intake.started": LogEvent("info", "The intake began to read the stream.", ("consumer", "lanes", "parser")),
    "intake.stopped": LogEvent("info", "The intake finished its batch and ended, as it was asked to.", ("consumer",)),
    "job.failed": LogEvent(
        "error",
        "A poke or a job failed. Nothing is lost: the next sweep finds its row. Look into the code if it repeats.",
        (
            "job",
            "code",
            "error",
            "duration_ms",
            "account_id",
            "charge_id",
            "message_id",
            "slot",
        ),
    ),
    "job.finished": LogEvent(
        "info", "A scheduled job did something: how much of what.", ("job", "duration_ms", "result")
    ),
    "job.idled": LogEvent("debug", "A scheduled job found nothing to do.", ("job", "duration_ms")),
    "job.still_running": LogEvent(
        "warning", "A scheduled job was passed over, because its run before has not ended.", ("job", "slot")
    ),
    "library.logged": LogEvent("any", "A library that refill uses had something to say.", ("logger", "message")),
    "member.added": LogEvent(
        "info",
        "A person joined an organisation, or their role was changed.",
        (
            "organisation",
            "member",
            "role",
            "actor",
        ),
    ),
    "message.deferred": LogEvent(
        "warning",
        "A message could not be delivered and is tried again at `next_at`. Look at the mail server if it repeats.",
        (
            "message_id",
            "attempts",
            "next_at",
            "code",
            "error",
        ),
    ),
    "message.poisoned": LogEvent(
        "error",
        "A message could not be delivered and is not tried again; the others went on. Correct it and send it by hand.",
        (
            "message_id",
            "attempts",
            "code",
            "error",
        ),
    ),
    "message.sent": LogEvent(
        "info",
        "A message was delivered to the mail server or the mail directory.",
        ("message_id", "account", "kind", "event_id", "charge_id"),
    ),
    "migration.applied": LogEvent("info", "A migration of the database was applied.", ("migration",)),
    "organisation.created": LogEvent(
        "info",
        "An organisation was created, or began to hold a program.",
        ("organisation", "program", "sharing", "actor"),
    ),
    "partition.created": LogEvent("info", "A month of entries got its partition.", ("partition",)),
    "policy.changed": LogEvent(
        "info",
        "Somebody changed when an account is warned or recharged; refill.policy_change keeps before and after.",
        ("account", "enabled", "actor"),
    ),
    "poke.handled": LogEvent(
        "debug", "A poke was handled.", ("job", "duration_ms", "account_id", "charge_id", "message_id", "slot")
    ),
    "poke.malformed": LogEvent(
        "warning",
        "Somebody sent what is no poke, through Postgres or the broker; it was passed over.",
        ("payload", "error"),
    ),
    "pokes.dropped": LogEvent(
        "warning", "So many pokes were lost with the broker, or nobody took them; sweeps find rows.", ("count", "queue")
    ),
    "process.crashed": LogEvent(
        "critical",
        "An exception was not caught and ended the process or a thread of it. Restart it if nothing did; report it.",
        ("code", "error"),
    ),
    "process.exited": LogEvent(
        "error",
        "A process ended by itself and is started again after the delay. Its own last line says why.",
        ("name", "pid", "status", "restart_in_s"),
    ),
    "process.failed": LogEvent(
        "error",
        "A step that must succeed before the rest starts did not. Its own last line says why.",
        ("name", "status"),
    ),
    "process.finished": LogEvent("info", "A step that runs once came to its end.", ("name",)),
    "process.forced": LogEvent(
        "warning",
        "A process did not stop when asked and was made to; its unfinished work is taken up at the next start.",
        ("name", "pid"),
    ),
    "process.leftover_found": LogEvent(
        "warning", "A process of an earlier run was still there and was stopped.", ("pid",)
    ),
    "process.restart_failed": LogEvent(
        "error",
        "A process could not be started again; it is tried once more after the delay.",
        ("name", "error", "restart_in_s"),
    ),
    "process.restarted": LogEvent("info", "A process that had ended was started again.", ("name", "pid")),
    "process.started": LogEvent("info", "A process was started.", ("name", "pid")),
    "process.stopped": LogEvent("info", "A process was stopped in order.", ("name", "duration_ms")),
    "program.loaded": LogEvent(
        "info", "A program was created, changed or found as it was.", ("program", "result", "actor")
    ),
    "recharge.cap_neared": LogEvent(
        "warning",
        "A recharge used most of what a cap allows. The next one may be held back; raise the cap if it is meant.",
        ("account", "period", "used_minor", "cap_minor"),
    ),
    "recharge.decided": LogEvent(
        "info",
        "An account was weighed for a recharge and the verdict is new; `refill explain` tells the whole of it.",
        ("account", "event_id", "charge_id", "verdict", "reason", "projected", "recharge_below", "next_at"),
    ),
    "sandbox.connection_lost": LogEvent(
        "warning", "A client of the sandbox processor hung up before its answer.", ("error",)
    ),
    "sandbox.request_failed": LogEvent(
        "error",
        "The sandbox processor failed on a request and answered 500; a fault of the sandbox. Report it.",
        ("method", "path"),
    ),
    "scheduler.elected": LogEvent("info", "This scheduler leads from here on.", ("leader",)),
    "scheduler.leadership_lost": LogEvent(
        "warning",
        "The leader's session with Postgres ended; whoever gets the lock next leads.",
        ("leader",),
    ),
    "scheduler.stalled": LogEvent(
        "critical",
        "A thread of the scheduler died or is stuck; the process ended itself and its supervisor starts it anew.",
        ("code", "error"),
    ),
    "scheduler.started": LogEvent("info", "A scheduler began; it leads once it has the lock.", ("leader",)),
    "scheduler.stopped": LogEvent("info", "A scheduler ended, as it was asked to."),
    "server.initialised": LogEvent("info", "The directory of an embedded server was made.", ("server", "path")),
    "server.ready": LogEvent("info", "An embedded server answers.", ("server", "port")),
    "spend.accounts_freed": LogEvent(
        "info", "Accounts are no longer locked; what was put aside is posted now.", ("count", "accounts")
    ),
    "spend.accounts_locked": LogEvent(
        "warning",
        "Another transaction keeps accounts locked; their events are put aside, the others go on. Look for an upstream "
        "that leaves a transaction open after refill.spend().",
        ("count", "accounts"),
    ),
    "spend.batch_posted": LogEvent(
        "info",
        "A batch of spend events is in the ledger: how many of each outcome, and from and to which stream entry.",
        (
            "count",
            "accepted",
            "insufficient_credit",
            "unknown_account",
            "account_closed",
            "malformed",
            "conflict",
            "put_aside",
            "quarantined",
            "first_stream_id",
            "last_stream_id",
            "duration_ms",
        ),
    ),
    "spend.entries_claimed": LogEvent(
        "info", "Entries of a consumer that fell silent are being posted by this one.", ("count", "consumer")
    ),
    "spend.entries_lost": LogEvent(
        "error",
        "Entries were removed from the stream before they were posted: somebody trims it. Upstream must resend them.",
        ("count", "stream_ids"),
    ),
    "spend.event_quarantined": LogEvent(
        "warning",
        "A stream entry could not be posted; it is in refill.quarantine as it came. Tell whoever sent it.",
        ("stream_id", "code", "detail"),
    ),
    "spend.events_refused": LogEvent(
        "info",
        "Events of a batch had this outcome: the first ids; all are in refill.spend_outcome.",
        ("code", "count", "event_ids"),
    ),
    "spend.field_ignored": LogEvent(
        "warning", "Upstream sends a field that this release does not know. Said once for each name.", ("field",)
    ),
    "stream.held_back": LogEvent(
        "warning",
        "The stream of spend events grows: a group is behind or was left behind. Remove a group that nobody reads.",
        ("length", "needed_from"),
    ),
    "sweep.row_failed": LogEvent(
        "error",
        "A sweep failed at one row and went on with the others; it comes back to the row. Look into the error.",
        ("code", "error", "account_id", "charge_id"),
    ),
    "up.ready": LogEvent(
        "info", "Everything runs; the environment file was written.", ("environment", "mail", "logs", "duration_ms")
    ),
    "up.stopped": LogEvent("info", "Everything was stopped in order; the data stays.", ("data",)),
    "up.stopping": LogEvent("info", "A stop was asked for; the processes are stopped in this order.", ("processes",)),
    "worker.started": LogEvent("info", "A worker began, with so many threads for each queue.", ("threads",)),
    "worker.stopped": LogEvent("info", "A worker finished what it had in hand and ended, as it was asked to."),
}

EVENTS: Final[Mapping[str, LogEvent]] = MappingProxyType(_EVENTS)
"""Name to event."""
