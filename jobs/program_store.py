"""Programs in the database: load one from its terms, list them, find one by its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog

from jobs.errors import Refused, UnknownProgram
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.levels import refresh_program
from jobs.program import Program, from_json

log = structlog.get_logger()

Loaded = Literal["loaded", "updated", "unchanged"]


class ProgramInUse(Refused):
    """The change would alter what credit that is already in the ledger means."""

    code = "program_in_use"


@dataclass(frozen=True, slots=True)
class StoredProgram:
    """A program as the database keeps it."""

    program_id: int
    program: Program
    loaded_at: datetime


def load(connection: Connection, program: Program, actor: str, now: datetime | None = None) -> Loaded:
    """Puts a program, or its changed terms, into the database; the same terms again change nothing.

    Raises `ProgramInUse` where credit exists whose meaning would change, or accounts are on a tier that is gone.
    """
    with connection.transaction():
        moment = now or database_now(connection)
        if _insert(connection, program, moment):
            result: Loaded = "loaded"
        else:
            result = _update(connection, program, moment)
    if result != "unchanged":
        log.info("program.loaded", program=program.name, result=result, actor=actor)
    return result


def find(connection: Connection, name: str, *, lock: bool = False) -> StoredProgram:
    """The program of this name; `lock` keeps its terms as they are until the transaction ends.

    Raises `UnknownProgram`.
    """
    if lock:
        connection.execute("select from refill.program where name = %s for share", (name,))
    row = connection.execute(
        "select program_id, terms::text, loaded_at from refill.program where name = %s", (name,)
    ).fetchone()
    if row is None:
        raise UnknownProgram(f"No program is named {name!r}; `refill program list` shows those that are loaded.")
    return StoredProgram(row[0], from_json(row[1]), row[2])


def list_programs(connection: Connection) -> list[StoredProgram]:
    """Every program, by name."""
    rows = connection.execute("select program_id, terms::text, loaded_at from refill.program order by name")
    return [StoredProgram(program_id, from_json(terms), loaded_at) for program_id, terms, loaded_at in rows]


def _insert(connection: Connection, program: Program, now: datetime) -> bool:
    added = connection.execute(
        "insert into refill.program (name, decimals, currency, time_zone, expiry_kind, expiry_days, terms, loaded_at)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (name) do nothing",
        (program.name, *_columns(program), now),
    )
    return added.rowcount == 1


def _update(connection: Connection, program: Program, now: datetime) -> Loaded:
    # As strong as the update itself: a reference to the program, which every charge takes, does not wait for it.
    program_id, terms = fetch_one(
        connection, "select program_id, terms from refill.program where name = %s for no key update", (program.name,)
    )
    if terms == json.loads(program.to_json()):
        return "unchanged"
    _check_change(connection, program_id, program)
    connection.execute(
        "update refill.program set decimals = %s, currency = %s, time_zone = %s, expiry_kind = %s, expiry_days = %s,"
        " terms = %s, loaded_at = %s where program_id = %s",
        (*_columns(program), now, program_id),
    )
    refresh_program(connection, program_id, program, now)
    return "updated"


def _columns(program: Program) -> tuple[object, ...]:
    expiry = program.expiry
    return program.decimals, program.currency, program.time_zone, expiry.kind, expiry.days, program.to_json()


def _check_change(connection: Connection, program_id: int, program: Program) -> None:
    decimals, currency, expiry_kind = fetch_one(
        connection, "select decimals, currency, expiry_kind from refill.program where program_id = %s", (program_id,)
    )
    changes = {
        "decimals": (decimals, program.decimals),
        "currency": (currency, program.currency),
        # An account that was silent dies as a whole: credit sold to last longer cannot lie on it.
        "expiry.kind": (expiry_kind, program.expiry.kind) if "inactivity" in (expiry_kind, program.expiry.kind) else (),
    }
    changed = [name for name, values in changes.items() if len(set(values)) > 1]
    if changed and _has_entries(connection, program_id):
        raise ProgramInUse(f"{program.name} has credit in the ledger: {' and '.join(changed)} cannot be changed.")
    gone = _tiers_in_use(connection, program_id) - program.tiers.keys()
    if gone:
        raise ProgramInUse(f"Accounts of {program.name} are on {', '.join(sorted(gone))}: a tier in use must stay.")


def _has_entries(connection: Connection, program_id: int) -> bool:
    found: bool = fetch_one(
        connection, "select exists (select from refill.movement where program_id = %s)", (program_id,)
    )[0]
    return found


def _tiers_in_use(connection: Connection, program_id: int) -> set[str]:
    rows = connection.execute(
        "select distinct tier from refill.account where program_id = %s and tier is not null and closed_at is null",
        (program_id,),
    )
    return {tier for (tier,) in rows}
