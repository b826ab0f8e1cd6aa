"""Members: the people of an organisation, and the accounts that each may see and use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from jobs.account import Account, find_open
from jobs.errors import AlreadyExists, Malformed, Refused
from jobs.ledger.database import Connection, fetch_one
from jobs.names import check_name
from jobs.organisation import find_id

log = structlog.get_logger()

Role = Literal["master", "manager", "user"]


class MastersOnly(Refused):
    """A system account is for masters only."""

    code = "masters_only"


class ForeignAccount(Refused):
    """The account belongs to another organisation."""

    code = "foreign_account"


@dataclass(frozen=True, slots=True)
class Member:
    """A person of an organisation. A master may use every account of it and has none named; the others those named."""

    name: str
    organisation: str
    role: Role
    accounts: tuple[str, ...]


def add(
    connection: Connection, organisation: str, name: str, role: Role, accounts: Sequence[str], actor: str
) -> Member:
    """Adds a member, or names more accounts to one; the same again changes nothing.

    Raises `Malformed`, `UnknownOrganisation`, `UnknownAccount`, `AccountClosed`, `ForeignAccount`, `MastersOnly`, and
    `AlreadyExists` where the member has another role.
    """
    check_name("the name of a member", name)
    if role == "master" and accounts:
        raise Malformed("a master may use every account of the organisation: name none")
    if role != "master" and not accounts:
        raise Malformed(f"a {role} may use the accounts that are named: name one or more with --account")
    with connection.transaction():
        organisation_id = find_id(connection, organisation)
        named = [_checked(find_open(connection, account), organisation) for account in accounts]
        member_id = _insert(connection, organisation_id, organisation, name, role)
        connection.execute(
            "insert into refill.member_account (member_id, account_id) select %s, unnest(%s::bigint[])"
            " on conflict do nothing",
            (member_id, [account.account_id for account in named]),
        )
        member = Member(name, organisation, role, _accounts_of(connection, member_id))
    log.info("member.added", organisation=organisation, member=name, role=role, actor=actor)
    return member


def _checked(account: Account, organisation: str) -> Account:
    if account.organisation != organisation:
        raise ForeignAccount(f"The account {account.name} does not belong to {organisation}.")
    if account.is_system:
        raise MastersOnly(f"{account.name} is a system account: those are for masters only.")
    return account


def _insert(connection: Connection, organisation_id: int, organisation: str, name: str, role: Role) -> int:
    connection.execute(
        "insert into refill.member (organisation_id, name, role) values (%s, %s, %s) on conflict do nothing",
        (organisation_id, name, role),
    )
    member_id, present = fetch_one(
        connection,
        "select member_id, role from refill.member where organisation_id = %s and name = %s",
        (organisation_id, name),
    )
    if present != role:
        raise AlreadyExists(f"{name} is a {present} of {organisation} already.")
    return int(member_id)


def _accounts_of(connection: Connection, member_id: int) -> tuple[str, ...]:
    rows = connection.execute(
        "select a.name from refill.member_account m join refill.account a using (account_id)"
        " where m.member_id = %s order by a.name",
        (member_id,),
    )
    return tuple(name for (name,) in rows)
