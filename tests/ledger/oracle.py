"""The rules of credit in their plainest form, in memory: one event, one lot at a time. Written from the rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.ledger.books import Answer, Spend


@dataclass
class OracleLot:
    lot_id: int
    is_paid: bool
    effective_at: datetime
    expires_at: datetime | None
    remaining: int

    def drawn_before(self) -> tuple[bool, float, bool, datetime, int]:
        """Soonest expiry and no expiry last, promotional before paid, oldest, lowest id."""
        expiry = 0.0 if self.expires_at is None else self.expires_at.timestamp()
        return self.expires_at is None, expiry, self.is_paid, self.effective_at, self.lot_id


@dataclass
class OracleAccount:
    program: str
    idle_days: int | None = None
    is_closed: bool = False
    idle_at: datetime | None = None
    lots: list[OracleLot] = field(default_factory=list)

    @property
    def balance(self) -> int:
        return sum(lot.remaining for lot in self.lots)

    def bury(self, now: datetime) -> None:
        """Dead credit is gone: at its expiry, or when the account was silent for too long."""
        is_silent = self.idle_at is not None and self.idle_at <= now
        for lot in self.lots:
            if is_silent or (lot.expires_at is not None and lot.expires_at <= now):
                lot.remaining = 0

    def stir(self, now: datetime) -> None:
        """The account was active."""
        if self.idle_days is not None:
            self.idle_at = now + timedelta(days=self.idle_days)

    def draw(self, amount: int) -> None:
        for lot in sorted(self.lots, key=OracleLot.drawn_before):
            part = min(lot.remaining, amount)
            lot.remaining -= part
            amount -= part


class Oracle:
    """What the ledger must say. Ids belong to a program; those of unknown accounts belong together."""

    def __init__(self) -> None:
        self.accounts: dict[str, OracleAccount] = {}
        self._first: dict[tuple[str | None, str], tuple[Spend, Answer]] = {}

    def grant(
        self, account: str, lot_id: int, amount: int, *, is_paid: bool, expires_at: datetime | None, now: datetime
    ) -> None:
        holder = self.accounts[account]
        holder.bury(now)
        if is_paid or holder.idle_at is None or holder.idle_at <= now:
            holder.stir(now)
        holder.lots.append(OracleLot(lot_id, is_paid, now, expires_at, amount))

    def post(self, spend: Spend, now: datetime) -> Answer:
        holder = self.accounts.get(spend.account)
        if holder is not None:
            holder.bury(now)
        first = self._known(spend, holder)
        if first is not None:
            return first[1] if first[0] == spend else Answer("conflict", None, spend.amount, None, None)
        answer = self._judge(spend, holder, now)
        self._first[None if holder is None else holder.program, spend.event_id] = spend, answer
        return answer

    def _known(self, spend: Spend, holder: OracleAccount | None) -> tuple[Spend, Answer] | None:
        unknown = self._first.get((None, spend.event_id))
        if holder is None or (unknown is not None and unknown[0].account == spend.account):
            return unknown
        return self._first.get((holder.program, spend.event_id))

    def _judge(self, spend: Spend, holder: OracleAccount | None, now: datetime) -> Answer:
        if holder is None:
            return Answer("unknown_account", None, spend.amount, None, None)
        if holder.is_closed:
            return Answer("account_closed", None, spend.amount, None, None)
        available = holder.balance
        if spend.amount > available:
            return Answer("insufficient_credit", available, spend.amount, available, spend.amount - available)
        holder.draw(spend.amount)
        holder.stir(now)
        return Answer("accepted", holder.balance, spend.amount, available, 0)

    def live_lots(self, now: datetime) -> dict[int, int]:
        """What each lot has left at a moment, dead ones nothing."""
        for account in self.accounts.values():
            account.bury(now)
        return {lot.lot_id: lot.remaining for account in self.accounts.values() for lot in account.lots}
