"""Accounts: open one, show it, close it when nothing is left in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog
from psycopg.rows import class_row

from jobs import organisation, program_store
from jobs.errors import AccountClosed, AlreadyExists, Refused, UnknownAccount
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.levels import effective_levels, watch_if_below
from jobs.names import check_email, check_name
from jobs.policy import PolicySettings, tier_of

log = structlog.get_logger()


class BalanceRemaining(Refused):
    """The account still has credit."""

    code = "balance_remaining"


class ChargeOpen(Refused):
    """A charge for the account is not at its end yet."""

    code = "charge_open"


@dataclass(frozen=True, slots=True)
class Account:
    """What an account was opened as."""

    account_id: int
    name: str
    program_id: int
    program: str
    organisation_id: int
    organisation: str
    is_system: bool
    email: str | None
    tier: str | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as it stands now. Credits in the program's smallest unit; the levels are those in effect."""

    account: str
    program: str
    organisation: str
    is_system: bool
    email: str | None
    tier: str | None
    state: str
    balance: int
    held: int
    pending: int
    next_expiry_at: datetime | None
    next_expiry_amount: int | None
    alert_below: int | None
    recharge_below: int | None
    opened_at: datetime
    closed_at: datetime | None


def open_account(
    connection: Connection,
    name: str,
    organisation_name: str,
    program: str,
    actor: str,
    *,
    is_system: bool = False,
    email: str | None = None,
    tier: str | None = None,
    now: datetime | None = None,
) -> Account:
    """Opens an account with the levels of its tier or program; the same again gives the same result.

    It begins empty, so below its trigger where it has one: the sweep is told. Raises `Malformed`, `UnknownProgram`,
    `UnknownOrganisation`, `ProgramNotHeld`, `UnknownTier`, `AccountClosed`, and `AlreadyExists` where the name stands
    for another account or the organisation has its system account of this program already.
    """
    check_name("the name of an account", name)
    if email is not None:
        check_email(email)
    with connection.transaction():
        stored = program_store.find(connection, program, lock=True)
        holder = organisation.find(connection, organisation_name, program)
        tier_of(stored.program, tier)
        levels = effective_levels(stored.program, tier, PolicySettings())
        row = connection.execute(
            "insert into refill.account"
            " (program_id, organisation_id, name, is_system, email, tier, alert_below, recharge_below)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing returning account_id",
            (stored.program_id, holder.organisation_id, name, is_system, email, tier,
             levels.alert_below, levels.recharge_below),
        ).fetchone()  # fmt: skip
        wanted = (program, organisation_name, is_system, email, tier)
        if row is None:
            return _opened_before(connection, name, wanted)
        watch_if_below(connection, [row[0]], now or database_now(connection))
    log.info("account.opened", account=name, organisation=organisation_name, program=program, tier=tier, actor=actor)
    return find(connection, name)


def find(connection: Connection, name: str, *, lock: bool = False) -> Account:
    """The account of this name, open or closed; `lock` keeps it as it is until the transaction ends.

    Raises `UnknownAccount`.
    """
    if lock:
        connection.execute("select from refill.account where name = %s for no key update", (name,))
    with connection.cursor(row_factory=class_row(Account)) as cursor:
        account = cursor.execute(
            "select a.account_id, a.name, a.program_id, p.name as program, a.organisation_id, o.name as organisation,"
            " a.is_system, a.email, a.tier, a.closed_at"
            " from refill.account a join refill.program p using (program_id)"
            " join refill.organisation o using (organisation_id) where a.name = %s",
            (name,),
        ).fetchone()
    if account is None:
        raise UnknownAccount(f"No account is named {name!r}.", account=name)
    return account


def find_open(connection: Connection, name: str, *, lock: bool = False) -> Account:
    """As `find`; raises `AccountClosed` too."""
    account = find(connection, name, lock=lock)
    if account.closed_at is not None:
        raise AccountClosed(f"The account {name} is closed.", account=name)
    return account


def show(connection: Connection, name: str) -> AccountView:
    """The account as it stands now; dead credit does not count. Raises `UnknownAccount`."""
    with connection.cursor(row_factory=class_row(AccountView)) as cursor:
        view = cursor.execute(
            "select b.account, b.program, b.organisation, a.is_system, a.email, a.tier, b.state, b.balance, b.held,"
            " b.pending, b.next_expiry_at, b.next_expiry_amount, a.alert_below, a.recharge_below, a.opened_at,"
            " a.closed_at from refill.balance b join refill.account a on a.name = b.account where b.account = %s",
            (name,),
        ).fetchone()
    if view is None:
        raise UnknownAccount(f"No account is named {name!r}.", account=name)
    return view


def close(connection: Connection, name: str, actor: str, now: datetime | None = None) -> Account:
    """Closes an account for good: its name is not used again. Closing it again changes nothing.

    Raises `UnknownAccount`, `BalanceRemaining` where it has credit, `ChargeOpen` where a charge is under way.
    """
    with connection.transaction():
        account = find(connection, name, lock=True)
        if account.closed_at is not None:
            return account
        moment = now or database_now(connection)
        connection.execute("select refill.expire_before_posting(%s, %s)", ([account.account_id], moment))
        _check_empty(connection, account)
        connection.execute(
            "update refill.account set closed_at = %s, updated_at = %s where account_id = %s",
            (moment, moment, account.account_id),
        )
        connection.execute("delete from refill.watch where account_id = %s", (account.account_id,))
    log.info("account.closed", account=name, organisation=account.organisation, actor=actor)
    return find(connection, name)


def _opened_before(connection: Connection, name: str, wanted: tuple[object, ...]) -> Account:
    row = connection.execute("select from refill.account where name = %s", (name,)).fetchone()
    if row is None:
        program, organisation_name, *_ = wanted
        raise AlreadyExists(f"{organisation_name} has a system account of {program} already.")
    account = find_open(connection, name)
    opened_as = (account.program, account.organisation, account.is_system, account.email, account.tier)
    if opened_as != wanted:
        raise AlreadyExists(
            f"The account {name} exists already, of {account.organisation} in {account.program}, with other details."
        )
    return account


def _check_empty(connection: Connection, account: Account) -> None:
    balance, charge_id = fetch_one(
        connection,
        "select a.balance, (select l.charge_id from refill.charge_line l where l.account_id = a.account_id and l.open)"
        " from refill.account a where a.account_id = %s",
        (account.account_id,),
    )
    if charge_id is not None:
        raise ChargeOpen(f"Charge {charge_id} for {account.name} is not at its end yet.", charge_id=charge_id)
    if balance > 0:
        program = program_store.find(connection, account.program).program
        raise BalanceRemaining(f"{account.name} still has {program.show(balance)}.", balance=balance)
