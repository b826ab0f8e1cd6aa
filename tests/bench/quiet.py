"""A large ledger in which little happens: very many accounts, a few of them below their trigger, and a long past."""

from __future__ import annotations

from jobs.ledger.database import connect, migrate
from tests.support.seed import load_examples

CREDITS, TRIGGER, LOW = 1_000_000, 500, 100

# Accounts with odd numbers have a trigger; those after the first `accounts` are below it. As post_grants would leave
# them, set by set: triggers and keys are off meanwhile, and the audit proves what they would have.
_FILL = """
    set session_replication_role = replica;
    insert into refill.account (program_id, organisation_id, name, balance, recharge_below)
    select p.program_id, o.organisation_id, 'account-' || n, case when n <= {accounts} then {credits} else {low} end,
           case when n > {accounts} or n % 2 = 1 then {trigger} end
    from refill.program p, refill.organisation o, generate_series(1, {accounts} + {below}) n where p.name = 'mail';
    insert into refill.lot (account_id, class, granted, remaining, currency, effective_at, expires_at)
    select account_id, 'promotional', balance, balance, 'USD', now(), now() + interval '180 days'
    from refill.account order by 1;
    insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, to_balance)
    select now(), 'promotion', a.program_id, refill.own_side(a.program_id, 'promotion'), a.account_id, l.granted,
           l.lot_id, l.granted
    from refill.lot l join refill.account a using (account_id) order by l.lot_id;
    update refill.account a set expires_next = l.expires_at from refill.lot l where l.account_id = a.account_id;
    insert into refill.watch (account_id, due_at, since)
    select account_id, now(), now() from refill.account where below_trigger order by random();
    insert into refill.event_log (at, type, account_id, data, seq)
    select now(), 'spend.refused', 1, '{{}}', n from generate_series(1, {accounts}) n;
    insert into refill.message (account_id, kind, to_address, data, state, next_at, created_at, sent_at)
    select 1, 'paused', 'a@example.com', '{{}}', 'sent', now(), now(), now() from generate_series(1, {accounts}) n;
    insert into refill.cursor values ('events_published', {accounts});
    reset session_replication_role;
"""


def fill_quiet(url: str, accounts: int, below: int) -> int:
    """Migrates a database and fills it; the credits that its accounts hold."""
    migrate(url)
    with connect(url) as connection:
        load_examples(connection)
        statement = _FILL.format(accounts=accounts, below=below, credits=CREDITS, low=LOW, trigger=TRIGGER)
        connection.execute(statement.encode())
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")
    return accounts * CREDITS + below * LOW
