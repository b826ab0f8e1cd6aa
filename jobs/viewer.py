"""Who looks: a member of an organisation sees what their role allows, and nothing else even exists for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs import account
from jobs.errors import Refused
from jobs.ledger.database import Connection
from jobs.member import Role


class UnknownMember(Refused):
    """No organisation has a member of this name."""

    code = "unknown_member"


class AmbiguousMember(Refused):
    """Members of several organisations have this name."""

    code = "ambiguous_member"


class NotPermitted(Refused):
    """The member may not see this account."""

    code = "not_permitted"


@dataclass(frozen=True, slots=True)
class Viewer:
    """A member: a `master` sees the whole organisation, a `manager` the accounts named to them, a `user` their own."""

    member_id: int
    name: str
    organisation_id: int
    organisation: str
    role: Role


def find_viewer(connection: Connection, name: str) -> Viewer:
    """The member called `name`, or `ORGANISATION/NAME` where several organisations have one of this name.

    Raises `UnknownMember` and `AmbiguousMember`.
    """
    found = connection.execute(
        """
        select m.member_id, m.name, m.organisation_id, o.name, m.role
        from refill.member m join refill.organisation o using (organisation_id)
        where m.name = %(name)s or o.name || '/' || m.name = %(name)s order by o.name
        """,
        {"name": name},
    ).fetchall()
    if not found:
        raise UnknownMember(f"No organisation has a member named {name!r}.")
    if len(found) > 1:
        choices = ", ".join(f"{organisation}/{member}" for _, member, _, organisation, _ in found[:5])
        raise AmbiguousMember(f"{len(found)} members are named {name!r}; say which one: {choices}.")
    return Viewer(*found[0])


def visible_accounts(connection: Connection, viewer: Viewer | None) -> list[str]:
    """The names of all accounts, open or closed, that the viewer may see; the operator (None) sees every one.

    System accounts are for masters only, even where one has been named to somebody else.
    """
    if viewer is None:
        return [name for (name,) in connection.execute("select name from refill.account order by name")]
    rows = connection.execute(
        """
        select a.name from refill.account a
        where a.organisation_id = %(organisation)s and (%(role)s = 'master' or (
            not a.is_system and exists (
                select from refill.member_account n where n.member_id = %(member)s and n.account_id = a.account_id)))
        order by a.name
        """,
        {"organisation": viewer.organisation_id, "role": viewer.role, "member": viewer.member_id},
    )
    return [name for (name,) in rows]


def check_visible(connection: Connection, viewer: Viewer | None, names: Sequence[str]) -> list[str]:
    """The names, each once, where the viewer may see all of them.

    To a member, an account that does not exist and one that is hidden look the same. Raises `NotPermitted` to a member
    and `UnknownAccount` to the operator.
    """
    wanted = list(dict.fromkeys(names))
    if viewer is None:
        return [account.find(connection, name).name for name in wanted]
    allowed = set(visible_accounts(connection, viewer))
    hidden = next((name for name in wanted if name not in allowed), None)
    if hidden is not None:
        raise NotPermitted(f"{viewer.name} of {viewer.organisation} may not see {hidden!r}.", account=hidden)
    return wanted
