"""Organisations: the customers of the business, and how each holds the credit of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import structlog

from jobs import program_store
from jobs.errors import Conflict, Refused, UnknownOrganisation
from jobs.ledger.database import Connection, fetch_one
from jobs.names import check_name

log = structlog.get_logger()

Sharing = Literal["shared", "individual"]


class ProgramNotHeld(Refused):
    """The organisation does not hold credit of this program."""

    code = "program_not_held"


@dataclass(frozen=True, slots=True)
class Organisation:
    """An organisation as it holds one program: on one shared balance, or on individual ones."""

    organisation_id: int
    name: str
    program: str
    sharing: Sharing


def create(connection: Connection, name: str, program: str, sharing: Sharing | None, actor: str) -> Organisation:
    """An organisation that holds a program, or one that exists and holds one more.

    Without `sharing` the program decides. The same again gives the same result. Raises `Malformed`, `UnknownProgram`,
    and `Conflict` where it holds the program in the other way already.
    """
    check_name("the name of an organisation", name)
    stored = program_store.find(connection, program)
    with connection.transaction():
        organisation_id = _insert(connection, name)
        added = connection.execute(
            "insert into refill.organisation_program (organisation_id, program_id, sharing) values (%s, %s, %s)"
            " on conflict do nothing",
            (organisation_id, stored.program_id, sharing or stored.program.organisations.balance),
        )
        organisation = find(connection, name, program)
    if sharing not in (None, organisation.sharing):
        raise Conflict(f"{name} holds {program} with {organisation.sharing} balances already.")
    if added.rowcount:
        log.info("organisation.created", organisation=name, program=program, sharing=organisation.sharing, actor=actor)
    return organisation


def find(connection: Connection, name: str, program: str) -> Organisation:
    """The organisation as it holds this program. Raises `UnknownOrganisation`, `UnknownProgram`, `ProgramNotHeld`."""
    organisation_id = find_id(connection, name)
    row = connection.execute(
        "select h.sharing from refill.organisation_program h join refill.program p using (program_id)"
        " where h.organisation_id = %s and p.name = %s",
        (organisation_id, program),
    ).fetchone()
    if row is None:
        program_store.find(connection, program)
        raise ProgramNotHeld(
            f"{name} holds no {program}; `refill organisation create {name} --program {program}` adds it."
        )
    return Organisation(organisation_id, name, program, row[0])


def find_id(connection: Connection, name: str) -> int:
    """The id of an organisation. Raises `UnknownOrganisation`."""
    row = connection.execute("select organisation_id from refill.organisation where name = %s", (name,)).fetchone()
    if row is None:
        raise UnknownOrganisation(f"No organisation is named {name!r}.")
    organisation_id: int = row[0]
    return organisation_id


def _insert(connection: Connection, name: str) -> int:
    connection.execute("insert into refill.organisation (name) values (%s) on conflict (name) do nothing", (name,))
    organisation_id: int = fetch_one(
        connection, "select organisation_id from refill.organisation where name = %s", (name,)
    )[0]
    return organisation_id
