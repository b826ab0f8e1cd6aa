"""What bears on one decision to recharge, as values: the rows that `refill explain` shows, tied by their ids."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from jobs.history import HistoryRow
from jobs.money import Money
from jobs.program import Program
from jobs.standing import Standing


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """A setting in effect and the level that it comes from."""

    name: str
    value: int | Money | bool | None
    source: str
    locked: bool


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """Who changed the account's own settings, and when; `after` holds what they were set to."""

    at: datetime
    actor: str
    after: dict[str, object]
    is_later: bool


@dataclass(frozen=True, slots=True)
class CardLine:
    """The card that paid for the account at the moment; `stop` is why it is not tried, over all accounts."""

    fingerprint: str
    brand: str
    last4: str
    payer: Literal["own", "manager"]
    stop: str | None
    stop_reason: str | None
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class DecisionLine:
    """A recorded evaluation, true from `at` to `seen_at`; `is_later` where it came after the moment asked for."""

    evaluation_id: int
    at: datetime
    seen_at: datetime
    verdict: str
    reason: str
    projected: int
    recharge_below: int | None
    next_at: datetime | None
    charge_id: int | None
    is_later: bool


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """A charge as it stands now, with the account's part of it: `credits` and `amount`, of `total` in all."""

    charge_id: int
    reason: str
    state: str
    credits: int
    amount: Money
    total: Money
    opened_at: datetime
    first_sent_at: datetime | None
    ended_at: datetime | None
    next_check_at: datetime | None
    detail: str | None
    invoice_number: str | None
    payment_intent: str | None
    lot_id: int | None


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One attempt on the card, for whichever accounts; `meaning` is its decline in words."""

    attempt_id: str
    charge_id: int
    accounts: tuple[str, ...]
    state: str
    is_reattempt: bool
    reserved_at: datetime
    sent_at: datetime | None
    finished_at: datetime | None
    decline: str | None
    meaning: str | None
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class MessageLine:
    """A mail about the account; of its address only the first letter and the domain."""

    message_id: str
    kind: str
    state: str
    to_address: str | None
    created_at: datetime
    sent_at: datetime | None
    next_at: datetime | None
    attempts: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict that holds at the moment. `decided_at` is when it was recorded, None where it was made afresh."""

    verdict: str
    reason: str
    next_at: datetime | None
    credits: int
    charge_id: int | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one account at one moment; `sentence` is the answer. Rows are newest first, entries last."""

    sentence: str
    account: str
    organisation: str
    program: Program
    tier: str | None
    at: datetime
    is_past: bool
    opened_at: datetime
    closed_at: datetime | None
    state: str
    standing: Standing
    recharge_below: int | None
    alert_below: int | None
    due_at: datetime | None
    ruling: Ruling | None
    policy: tuple[PolicyLine, ...]
    changes: tuple[PolicyChange, ...]
    card: CardLine | None
    decisions: tuple[DecisionLine, ...]
    charges: tuple[ChargeLine, ...]
    attempts: tuple[AttemptLine, ...]
    messages: tuple[MessageLine, ...]
    entries: tuple[HistoryRow, ...]
