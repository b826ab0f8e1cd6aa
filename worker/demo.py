"""A few sample accounts and a stream of sample spends, so that a first run shows what refill does within a minute.

Starting it again is harmless: accounts, grants and cards are made once, and each run's spends have ids of their own.
It goes through the same doors as anybody: the commands of `jobs` and the stream of spend events.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
import structlog

from jobs import account, card, grant, organisation, policy_store
from jobs.errors import RefillError
from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import Connection
from jobs.money import Money, format_money
from jobs.policy import PolicySettings
from worker.stopping import StopRequest
from worker.stream import STREAM

log = structlog.get_logger()

ACTOR: Final = "demo"
BRISK_ROUNDS: Final = 32  # at BRISK_S each: half a minute, in which every account reaches its alert level
BRISK_S: Final = 1.0
SLOW_ROUNDS: Final = 30  # at SLOW_S each: ten minutes of little spends, and then nothing
SLOW_S: Final = 20.0
TOLD_AFTER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Character:
    """One account of the story; ``spend`` is what one of its brisk spends takes, in the program's smallest unit."""

    organisation: str
    program: str
    account: str
    email: str
    granted: int
    policy: PolicySettings
    spend: int
    test_card: str | None = None


HERO: Final = Character(
    "demo-campaigns",
    "points",
    "demo-spring",
    "spring@example.com",
    1_300,
    PolicySettings(alert_below=1_000, recharge_below=500, amount=1_000, enabled=True),
    40,
    "ok",
)
CAST: Final = (
    HERO,
    Character(
        "demo-campaigns",
        "points",
        "demo-autumn",
        "autumn@example.com",
        1_300,
        PolicySettings(alert_below=1_000, recharge_below=500, amount=1_000, enabled=True),
        30,
        "declined",
    ),
    Character("demo-press", "mail", "demo-office", "office@example.com", 3_000, PolicySettings(alert_below=1_500), 85),
    Character("demo-club", "sms", "demo-coach", "coach@example.com", 400, PolicySettings(alert_below=100), 11),
)


def prepare(connection: Connection, gateway: StripeGateway) -> list[Character]:
    """Makes what is missing of the cast and returns those who can play: not every database has every program."""
    return [character for character in CAST if _can_play(connection, gateway, character)]


def _can_play(connection: Connection, gateway: StripeGateway, character: Character) -> bool:
    try:
        _make(connection, gateway, character)
    except RefillError as error:
        log.warning("demo.account_left_out", account=character.account, code=error.code, error=str(error))
        return False
    return True


def _make(connection: Connection, gateway: StripeGateway, character: Character) -> None:
    """Credit comes before the policy, and the card last: nothing is recharged before the story begins."""
    name = character.account
    organisation.create(connection, character.organisation, character.program, None, ACTOR)
    account.open_account(connection, name, character.organisation, character.program, ACTOR, email=character.email)
    grant.grant(connection, name, character.granted, "sample credit", ACTOR, request_id=f"demo-{name}")
    policy_store.set_policy(connection, name, character.policy, ACTOR)
    if character.test_card is not None and card.in_use(connection, name) is None:
        card.add(connection, gateway, name, ACTOR, test_card=character.test_card)


@dataclass(frozen=True, slots=True)
class Round:
    """One spend of each player, by event id, and how long to wait after it."""

    spends: Mapping[str, tuple[str, int]]
    pause_s: float


def rounds(players: Sequence[Character]) -> Iterator[Round]:
    """All spends of one run, under ids that no other run has: brisk ones first, then little ones now and then."""
    run = secrets.token_hex(4)
    for number in range(BRISK_ROUNDS + SLOW_ROUNDS):
        is_brisk = number < BRISK_ROUNDS
        yield Round(
            {
                f"demo-{run}-{number:02}-{player.account}": (
                    player.account,
                    player.spend if is_brisk else max(1, player.spend // 20),
                )
                for player in players
            },
            BRISK_S if is_brisk else SLOW_S,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Where the story lies: the first spend that was posted, the latest mail and the latest recharge."""

    event_id: str | None = None
    mail: str | None = None
    subject_of: str | None = None
    invoice_number: str | None = None
    charge_id: int | None = None
    paid: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether there is something of everything."""
        return None not in (self.event_id, self.mail, self.invoice_number)


class Demo:
    """One run of the story."""

    def __init__(self, connection: Connection, stream: redis.Redis, mail_dir: Path | None) -> None:
        self._connection = connection
        self._stream = stream
        self._mail_dir = mail_dir
        self._found = Found()

    def run(self, players: Sequence[Character], stop: StopRequest) -> Iterator[Found]:
        """Sends the spends and yields what has been found so far, after each round. Returns when asked to stop."""
        for one in rounds(players):
            if stop.is_set:
                return
            self._send(one)
            stop.wait(one.pause_s)
            self._look(next(iter(one.spends), ""))
            yield self._found

    def _send(self, one: Round) -> None:
        with self._stream.pipeline(transaction=False) as pipeline:
            for event_id, (name, amount) in one.spends.items():
                pipeline.xadd(STREAM, {"id": event_id, "account": name, "amount": amount, "ref": "sample"})
            pipeline.execute()

    def _look(self, event_id: str) -> None:
        found = self._found
        if found.is_whole:
            return
        mail, kind = self._mail()
        invoice_number, charge_id, paid = self._recharge()
        self._found = Found(
            event_id=found.event_id or self._posted(event_id),
            mail=mail,
            subject_of=kind,
            invoice_number=invoice_number,
            charge_id=charge_id,
            paid=paid,
        )
        _log_news(found, self._found)

    def _posted(self, event_id: str) -> str | None:
        row = self._connection.execute(
            "select event_id from refill.spend_outcome where event_id = %s and outcome = 'accepted'", (event_id,)
        ).fetchone()
        return None if row is None else str(row[0])

    def _mail(self) -> tuple[str | None, str | None]:
        row = self._connection.execute(
            "select m.message_id::text, m.kind || ' for ' || a.name from refill.message m"
            " join refill.account a using (account_id) where a.name = %s and m.kind = 'low' and m.state = 'sent'"
            " order by m.created_at desc limit 1",
            (HERO.account,),
        ).fetchone()
        if row is None:
            return None, None
        return (row[0] if self._mail_dir is None else str(self._mail_dir / f"{row[0]}.eml")), row[1]

    def _recharge(self) -> tuple[str | None, int | None, str | None]:
        row = self._connection.execute(
            "select invoice_number, charge_id, amount, currency from refill.charge_history"
            " where account = %s and state = 'succeeded' order by settled_at desc limit 1",
            (HERO.account,),
        ).fetchone()
        return (None, None, None) if row is None else (row[0], row[1], format_money(Money(row[2], row[3])))


def _log_news(before: Found, after: Found) -> None:
    if after.event_id and not before.event_id:
        log.info("demo.spend_posted", event_id=after.event_id)
    if after.mail and not before.mail:
        log.info("demo.mail_sent", mail=after.mail, kind=after.subject_of)
    if after.invoice_number and not before.invoice_number:
        log.info("demo.recharged", invoice_number=after.invoice_number, charge_id=after.charge_id, amount=after.paid)


def told(found: Found, command: str) -> str:
    """The story for a person, with what to type next; ``command`` is how refill is called from where they are."""
    lines = [
        "What has happened so far:",
        f"  spends    are posted as they come; the first was {found.event_id or 'not seen yet'}",
        f"  mail      {found.mail or 'none yet'}" + (f"  ({found.subject_of})" if found.subject_of else ""),
        f"  recharge  invoice {found.invoice_number}, {found.paid}, charge {found.charge_id}"
        if found.invoice_number
        else "  recharge  none yet: see why with `explain` below",
        "Look for yourself, in another terminal:",
        f"  {command} status                 how it all is",
        f"  {command} history {HERO.account}    what came in and went out",
        f"  {command} explain {HERO.account}    why it was recharged",
        f"  {command} explain demo-autumn    why it was not: its card is declined",
        f"  {command} audit                  the proof that the books are right",
    ]
    return "\n".join(lines)
