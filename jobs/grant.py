"""Grants: promotional credit that nobody paid for, given by an operator with a reason."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from jobs import program_store
from jobs.account import Account, find_open
from jobs.errors import Malformed
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.money import AMOUNT_MAX
from jobs.names import check_reason
from jobs.program import Program, lot_expiry
from jobs.request import Request, Result, once

log = structlog.get_logger()

GRANT_MAX: Final = 10**15
"""The largest amount of one grant: more is a slip of the keyboard."""
EXPIRES_DAYS_MAX: Final = 36_500


@dataclass(frozen=True, slots=True)
class Granted:
    """One promotional lot. `balance` is what the account had after it; `expires_at` None: not by a date of its own."""

    account: str
    lot_id: int
    amount: int
    balance: int
    expires_at: datetime | None
    request_id: str


def grant(
    connection: Connection,
    account: str,
    amount: int,
    reason: str,
    actor: str,
    *,
    expires_days: int | None = None,
    request_id: str | None = None,
    now: datetime | None = None,
) -> Granted:
    """Gives an account `amount` smallest units of promotional credit; it expires as the program says or `expires_days`.

    The same `request_id` with the same content gives the first result again; without one every call is a new grant.
    Raises `Malformed`, `UnknownAccount`, `AccountClosed` and `Conflict`.
    """
    gift = _Gift(_checked_amount(amount), check_reason(reason), _checked_days(expires_days))
    request_id = request_id if request_id is not None else str(uuid.uuid4())
    with connection.transaction():
        holder = find_open(connection, account, lock=True)
        request = Request(holder.program_id, "grant", request_id, {"account": account, **asdict(gift)}, actor)
        result = once(connection, request, lambda: _post(connection, holder, gift, request, now))
        expires_at = _expiry_of(connection, result["lot_id"])
    return Granted(account, result["lot_id"], amount, result["balance"], expires_at, request_id)


@dataclass(frozen=True, slots=True)
class _Gift:
    amount: int
    reason: str
    expires_days: int | None


def _checked_amount(amount: int) -> int:
    if not 1 <= amount <= GRANT_MAX:
        raise Malformed(f"a grant must be from 1 to {GRANT_MAX:,}, not {amount:,}")
    return amount


def _checked_days(days: int | None) -> int | None:
    if days is not None and not 1 <= days <= EXPIRES_DAYS_MAX:
        raise Malformed(f"a grant must expire in 1 to {EXPIRES_DAYS_MAX:,} days, not {days:,}")
    return days


def _post(connection: Connection, holder: Account, gift: _Gift, request: Request, now: datetime | None) -> Result:
    moment = now or database_now(connection)
    _check_room(connection, holder, gift.amount)
    program = program_store.find(connection, holder.program).program
    lot_id, balance = fetch_one(
        connection,
        "select lot_id, balance from refill.post_grants(array[%s::bigint], array[%s::bigint],"
        " array[coalesce(%s::timestamptz, 'infinity')], array[0::bigint], 'promotion', null, %s, %s, %s, %s)",
        (
            holder.account_id,
            gift.amount,
            _expires_at(program, gift.expires_days, moment),
            request.request_id,
            gift.reason,
            request.actor,
            moment,
        ),
    )
    log.info("credit.granted", account=holder.name, lot_id=lot_id, amount=gift.amount, actor=request.actor)
    return {"lot_id": lot_id, "balance": balance}


def _expires_at(program: Program, expires_days: int | None, now: datetime) -> datetime | None:
    """When the lot dies by itself; credit that dies by inactivity dies with its account."""
    if expires_days is not None:
        return now + timedelta(days=expires_days)
    return lot_expiry(program, now) if program.expiry.kind == "fixed" else None


def _expiry_of(connection: Connection, lot_id: int) -> datetime | None:
    expires_at: datetime | None = fetch_one(
        connection, "select nullif(expires_at, 'infinity') from refill.lot where lot_id = %s", (lot_id,)
    )[0]
    return expires_at


def _check_room(connection: Connection, holder: Account, amount: int) -> None:
    balance: int = fetch_one(
        connection, "select balance from refill.account where account_id = %s", (holder.account_id,)
    )[0]
    if balance + amount > AMOUNT_MAX:
        raise Malformed(f"with {amount:,} more {holder.name} would have more than can be kept, {AMOUNT_MAX:,}")
