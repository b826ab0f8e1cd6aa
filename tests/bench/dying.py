"""A ledger in which very many lots expire at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from jobs.ledger.database import connect, database_now, migrate
from tests.support.seed import load_examples

DYING_CREDITS, KEPT_CREDITS = 100, 1_000


@dataclass(frozen=True, slots=True)
class Dying:
    """Accounts `account-1` to `account-KEEPING` lose one of two lots at `first`; the `emptied` that follow them lose
    the only one that they have at `second`. Both moments lie ahead, so that only a sweep for them books it."""

    keeping: int
    emptied: int
    first: datetime
    second: datetime

    @property
    def credits(self) -> int:
        """What all accounts hold together."""
        return self.keeping * (DYING_CREDITS + KEPT_CREDITS) + self.emptied * DYING_CREDITS


# As post_grants would have left it. Triggers and keys are off meanwhile: the audit proves what they would have.
_FILL = """
    set session_replication_role = replica;
    insert into refill.account (program_id, organisation_id, name, balance, expires_next)
    select p.program_id, o.organisation_id, 'account-' || n, {dying} + case when n <= {keeping} then {kept} else 0 end,
           case when n <= {keeping} then '{first}' else '{second}' end::timestamptz
    from refill.program p, refill.organisation o, generate_series(1, {keeping} + {emptied}) n where p.name = 'mail';
    insert into refill.lot (account_id, class, granted, remaining, currency, effective_at, expires_at)
    select account_id, 'promotional', {dying}, {dying}, 'USD', now(), expires_next
    from refill.account order by account_id;
    insert into refill.lot (account_id, class, granted, remaining, currency, effective_at)
    select account_id, 'promotional', {kept}, {kept}, 'USD', now()
    from refill.account where balance > {dying} order by account_id;
    insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, to_balance)
    select now(), 'promotion', a.program_id, refill.own_side(a.program_id, 'promotion'), a.account_id, l.granted,
           l.lot_id,
           case when l.granted = {dying} then {dying} else a.balance end
    from refill.lot l join refill.account a using (account_id) order by l.lot_id;
    reset session_replication_role;
"""


def fill_dying(url: str, keeping: int, emptied: int) -> Dying:
    """Migrates a database and fills it, set by set."""
    migrate(url)
    with connect(url) as connection:
        load_examples(connection)
        now = database_now(connection)
        dying = Dying(keeping, emptied, now + timedelta(days=1), now + timedelta(days=2))
        statement = _FILL.format(
            keeping=keeping,
            emptied=emptied,
            first=dying.first,
            second=dying.second,
            dying=DYING_CREDITS,
            kept=KEPT_CREDITS,
        )
        connection.execute(statement.encode())
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")
    return dying
