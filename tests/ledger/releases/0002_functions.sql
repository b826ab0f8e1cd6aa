-- The functions of the release whose schema ended with 0002, as a ledger that was never migrated since still has them.
-- A program's own sides have negative ids that carry the program: no join is needed to know what a movement was for.
create or replace function refill.own_side(program_id int, name text) returns bigint
language sql immutable parallel safe as $$
    select -(program_id::bigint * 8 + case name
        when 'sales' then 0 when 'revenue' then 1 when 'breakage' then 2 when 'refunds' then 3 when 'promotion' then 4 end)
$$;

create or replace function refill.own_side_name(side bigint) returns text
language sql immutable parallel safe as $$
    select case -side % 8
        when 0 then 'sales' when 1 then 'revenue' when 2 then 'breakage' when 3 then 'refunds' when 4 then 'promotion' end
$$;

-- Credit left after each of a row of amounts, in order, where an amount that does not fit is passed over whole.
create or replace function refill.draw_whole(remaining bigint, available bigint, amount bigint) returns bigint
language plpgsql immutable parallel safe as $$
begin
    if remaining is null then remaining := available; end if;
    if amount <= remaining then return remaining - amount; end if;
    return remaining;
end $$;

create or replace aggregate refill.left_after(available bigint, amount bigint) (sfunc = refill.draw_whole, stype = bigint);

-- What has been written into the books stays as it is, whoever asks.
create or replace function refill.refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception '% of refill.% is refused: its rows are immutable', tg_op, tg_table_name
        using errcode = 'restrict_violation', hint = 'Correct a mistake with a new entry.';
end $$;

create or replace trigger immutable before update or delete or truncate on refill.entry
    for each statement execute function refill.refuse_change();
create or replace trigger immutable before update or delete or truncate on refill.spend_event
    for each statement execute function refill.refuse_change();
create or replace trigger immutable before update or delete or truncate on refill.invoice
    for each statement execute function refill.refuse_change();
create or replace trigger immutable before update or delete or truncate on refill.policy_change
    for each statement execute function refill.refuse_change();

-- The live line of an account is the line of an open charge: the partial unique index then holds "one open line per account".
create or replace function refill.follow_charge_state() returns trigger
language plpgsql as $$
begin
    update refill.charge_line set open = false where charge_id = new.charge_id and open;
    return null;
end $$;

create or replace trigger close_lines after update of state on refill.charge
    for each row when (new.state in ('needs_customer', 'succeeded', 'declined', 'cancelled'))
    execute function refill.follow_charge_state();

-- What a change of a balance sets off, written in the transaction of its cause, whoever changed it: the trigger on
-- refill.account is the only place that knows, so no writer can forget.

-- Records that something happened. The sequencer numbers it after commit.
create or replace function refill.record_event(p_type text, p_account_id bigint, p_at timestamptz, p_data jsonb) returns void
language plpgsql as $$
begin
    insert into refill.event_log (at, type, account_id, data) values (p_at, p_type, p_account_id, p_data);
    perform pg_notify('refill_poke', 'publish');
end $$;

-- Whose card it is that pays for an account: its own, or the one of its organisation's system account.
create or replace function refill.card_holder(p_account_id bigint, p_fingerprint text) returns bigint
language sql stable as $$
    select c.account_id
    from refill.account a
    join refill.account h on h.organisation_id = a.organisation_id and h.program_id = a.program_id
        and (h.account_id = a.account_id or h.is_system)
    join refill.card c on c.account_id = h.account_id and c.fingerprint = p_fingerprint
    where a.account_id = p_account_id
    order by h.account_id = a.account_id desc, c.card_id desc limit 1
$$;

-- Writes a message about an account to its address or, where it is about a card, to that card's holder. Without an address
-- it is kept as unaddressed, so that the omission shows.
create or replace function refill.enqueue_message(
    p_account_id bigint, p_kind text, p_at timestamptz, p_data jsonb, p_fingerprint text default null
) returns uuid
language plpgsql as $$
declare
    v_message_id uuid;
    v_state text;
begin
    insert into refill.message (account_id, kind, to_address, data, state, next_at, created_at)
    select a.account_id, p_kind, h.email,
           jsonb_build_object('account', a.name, 'program', p.name, 'balance', a.balance) || p_data,
           case when h.email is null then 'unaddressed' else 'pending' end, p_at, p_at
    from refill.account a
    join refill.program p on p.program_id = a.program_id
    join refill.account h
        on h.account_id = coalesce(refill.card_holder(p_account_id, p_fingerprint), a.account_id)
    where a.account_id = p_account_id
    returning message_id, state into v_message_id, v_state;
    if v_state = 'pending' then perform pg_notify('refill_poke', 'deliver ' || v_message_id); end if;
    return v_message_id;
end $$;

-- Puts the account before the sweep, now, and pokes a worker after commit.
create or replace function refill.watch_account(p_account_id bigint, p_at timestamptz, p_event_id text default null) returns void
language plpgsql as $$
begin
    insert into refill.watch as w (account_id, due_at, since, event_id) values (p_account_id, p_at, p_at, p_event_id)
    on conflict (account_id) do update set due_at = excluded.due_at, event_id = coalesce(excluded.event_id, w.event_id);
    perform pg_notify('refill_poke', 'evaluate ' || p_account_id);
end $$;

-- The spend event that took an account from a level or above to below it, or null where it was no spend.
create or replace function refill.crossing_event(p_before refill.account, p_after refill.account, p_level bigint) returns text
language sql stable as $$
    select e.event_id
    from (  -- the newest entries are those of this posting; a batch has no more
        select * from refill.entry n
        where p_after.balance < p_before.balance and n.from_side = p_after.account_id and n.from_side > 0
        order by n.entry_id desc limit 10000
    ) e
    where e.kind = 'spend' and e.at = p_after.updated_at
      and e.from_balance < p_level and e.from_balance + e.amount >= p_level
    order by e.entry_id desc limit 1
$$;

-- One change of band: 0 depleted, 1 low, 2 near the alert level, 3 clear of it.
--   low       fires once on falling below the level; re-arms after 15 minutes in band 3; one message per day
--   depleted  fires each time
--   replenished  when credit is back: out of depleted, or out of low
create or replace function refill.announce_band(p_account refill.account, p_was refill.account) returns void
language plpgsql as $$
declare
    v_at timestamptz := p_account.updated_at;
    v_now smallint := p_account.band;
    v_before smallint := p_was.band;
    v_alert refill.alert;
    v_level bigint := case when p_account.band = 0 then 1 else p_account.alert_below end;
    v_data jsonb := jsonb_build_object('balance', p_account.balance, 'alert_below', p_account.alert_below,
                                       'event_id', refill.crossing_event(p_was, p_account, v_level));
begin
    insert into refill.alert (account_id) values (p_account.account_id) on conflict do nothing;
    select * into v_alert from refill.alert where account_id = p_account.account_id for update;
    if v_before = 3 and v_alert.clear_since <= v_at - interval '15 minutes' then v_alert.low_armed := true; end if;
    v_alert.clear_since := case when v_now = 3 then v_at end;

    if v_now = 0 then
        perform refill.record_event('balance.depleted', p_account.account_id, v_at, v_data);
        perform refill.enqueue_message(p_account.account_id, 'depleted', v_at, v_data);
        v_alert.low_armed := false;
    elsif v_now = 1 and v_before > 1 and v_alert.low_armed then
        perform refill.record_event('balance.low', p_account.account_id, v_at, v_data);
        v_alert.low_armed := false;
        if v_alert.low_sent_at is null or v_alert.low_sent_at <= v_at - interval '1 day' then
            perform refill.enqueue_message(p_account.account_id, 'low', v_at, v_data);
            v_alert.low_sent_at := v_at;
        end if;
    elsif v_before = 0 or (v_before = 1 and v_now > 1) then
        perform refill.record_event('balance.replenished', p_account.account_id, v_at, v_data);
    end if;

    update refill.alert set low_armed = v_alert.low_armed, clear_since = v_alert.clear_since, low_sent_at = v_alert.low_sent_at
    where account_id = p_account.account_id;
end $$;

create or replace function refill.announce_account() returns trigger
language plpgsql as $$
begin
    if new.band <> old.band then perform refill.announce_band(new, old); end if;
    if new.below_trigger and not old.below_trigger then
        perform refill.watch_account(new.account_id, new.updated_at, refill.crossing_event(old, new, new.recharge_below));
    elsif old.below_trigger and not new.below_trigger then  -- the verdict that stood is over: let it be said at once
        perform refill.watch_account(new.account_id, new.updated_at);
    end if;
    return null;
end $$;

create or replace trigger announce after update on refill.account
    for each row when (new.closed_at is null and (new.band <> old.band or new.below_trigger <> old.below_trigger))
    execute function refill.announce_account();

-- An account that is opened with a trigger is below it at once.
create or replace function refill.announce_opening() returns trigger
language plpgsql as $$
begin
    perform refill.watch_account(new.account_id, new.updated_at);
    return null;
end $$;

create or replace trigger announce_opening after insert on refill.account
    for each row when (new.closed_at is null and new.below_trigger)
    execute function refill.announce_opening();

-- Locks accounts in id order: every posting begins here, so that two of them never wait for each other in a circle.
create or replace function refill.lock_accounts(p_account_ids bigint[]) returns void
language sql as $$
    select from refill.account where account_id = any(p_account_ids) order by account_id for no key update
$$;

-- Books the expiry of dead lots of accounts that are locked already, each lot's remainder to breakage, and returns how much.
-- A lot is dead at expires_at; all lots of an account are dead once it has been idle for its program's days.
create or replace function refill.expire_due(p_account_ids bigint[], p_now timestamptz, out lots bigint, out credits bigint)
language plpgsql as $$
begin
    with due as (
        select l.lot_id, l.account_id, l.remaining, a.program_id,
               a.balance - sum(l.remaining) over (partition by l.account_id order by l.expires_at, l.lot_id) as balance_after
        from refill.account a join refill.lot l on l.account_id = a.account_id and l.open
        where a.account_id = any(p_account_ids) and least(l.expires_at, a.idle_expires_at) <= p_now
    ), booked as (
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance)
        select p_now, 'expiry', program_id, account_id, refill.own_side(program_id, 'breakage'), remaining, lot_id, balance_after
        from due order by account_id, balance_after desc
    ), emptied as (
        update refill.lot l set remaining = 0 from due where l.lot_id = due.lot_id
    ), lost as (
        select account_id, sum(remaining)::bigint as credits, count(*) as lots from due group by account_id
    ), told as (
        insert into refill.event_log (at, type, account_id, data)
        select p_now, 'credit.expired', account_id, jsonb_build_object('credits', lost.credits, 'lots', lost.lots) from lost
    ), settled as (
        update refill.account a
        set balance = a.balance - coalesce(lost.credits, 0),
            expires_next = coalesce((select min(l.expires_at) from refill.lot l
                                     where l.account_id = a.account_id and l.open and l.expires_at > p_now), 'infinity'),
            updated_at = p_now
        from refill.account b left join lost on lost.account_id = b.account_id
        where a.account_id = b.account_id and b.account_id = any(p_account_ids)
    )
    select coalesce(sum(lost.lots), 0), coalesce(sum(lost.credits), 0) into lots, credits from lost;
    if lots > 0 then perform pg_notify('refill_poke', 'publish'); end if;
end $$;

-- Lazy expiry, for every posting: books what is dead on the accounts that it is about to touch. Cheap where nothing is due.
create or replace function refill.expire_before_posting(p_account_ids bigint[], p_now timestamptz) returns void
language plpgsql as $$
declare
    v_due bigint[];
begin
    select array_agg(account_id) into v_due from refill.account
    where account_id = any(p_account_ids) and least(expires_next, idle_expires_at) <= p_now;
    if v_due is not null then perform refill.expire_due(v_due, p_now); end if;
end $$;

-- Posts a batch of spend events: lock, then post.
--
-- One statement locks the accounts in id order and brings what it found there, as new as the lock; only then a second one,
-- with a snapshot as new as the lock, reads lots and outcomes and writes everything. One statement that did both would read
-- lots from before its lock was granted.
--
-- An account opened while the locks were waited for is not among them: to this batch it is unknown.
--
-- Events are judged per account in the order of the arrays, all or nothing. An event whose id is known is compared by content
-- with the first of that id: equal gets the first outcome again, anything else is a `conflict`; neither posts anything.
-- Raises unique_violation where another transaction has just posted the same id on another account: the caller tries again.
--
-- The settings pin the plan: Postgres cannot know how many rows join here and guesses up to a thousand times too many, so that
-- it would sort for merge joins what fits into a hash table, and compile with JIT what runs once. That arrays are planned for
-- their own length each time is the session's business (plan_cache_mode, see jobs/spend.py). Comparisons that could be `=` are
-- written as `<=` where that is the same, because Postgres takes one row in 200 for equal and one in 3 for less: too low a
-- guess would make it compare every event with every lot.
create or replace function refill.post_spend(
    p_event_ids text[], p_accounts text[], p_amounts bigint[], p_spent_ats timestamptz[], p_refs text[], p_memos text[],
    p_actors text[], p_now timestamptz default null
) returns table (ord int, outcome refill.outcome, balance bigint, required bigint, available bigint, shortfall bigint)
language plpgsql
set jit = off
set enable_mergejoin = off
set work_mem = '64MB'
as $$
#variable_conflict use_column
declare
    v_account_ids bigint[];
    v_names text[];
    v_program_ids int[];
    v_balances bigint[];
    v_closed boolean[];
    v_due_at timestamptz;
    v_now timestamptz;
begin
    select array_agg(account_id), array_agg(name), array_agg(program_id), array_agg(balance), array_agg(closed_at is not null),
           min(least(expires_next, idle_expires_at))
    into v_account_ids, v_names, v_program_ids, v_balances, v_closed, v_due_at
    from (select * from refill.account a where a.name = any(p_accounts) order by a.account_id for no key update) locked;
    v_now := coalesce(p_now, clock_timestamp());
    if v_due_at <= v_now then
        perform refill.expire_before_posting(v_account_ids, v_now);
        select array_agg(a.balance order by a.account_id) into v_balances
        from refill.account a where a.account_id = any(v_account_ids);
    end if;

    return query
    with input as materialized (  -- program 0 stands for an account that nobody knows
        select i.ord::int, i.event_id, i.account, i.amount, i.spent_at, i.ref, i.memo, i.actor, a.account_id,
               coalesce(a.program_id, 0) as program_id, a.balance, a.is_closed,
               min(i.ord::int) over (partition by i.event_id, coalesce(a.program_id, 0)) as leader  -- the first of its id
        from unnest(p_event_ids, p_accounts, p_amounts, p_spent_ats, p_refs, p_memos, p_actors)
             with ordinality as i(event_id, account, amount, spent_at, ref, memo, actor, ord)
        left join unnest(v_account_ids, v_names, v_program_ids, v_balances, v_closed)
             as a(account_id, name, program_id, balance, is_closed) on a.name = i.account
    ), known as materialized (  -- the leaders, and what became of their ids before
        select i.*, e.event_id is not null as is_replay, e.account_id as first_account_id, e.account as first_account,
               e.amount as first_amount, e.spent_at as first_spent_at, e.ref as first_ref, e.memo as first_memo,
               e.actor as first_actor, e.outcome as first_outcome, e.balance_after as first_balance
        from input i
        left join lateral (  -- pins one index probe for each
            select * from refill.spend_event s
            where s.event_id = i.event_id and s.program_id in (i.program_id, 0)
              and (s.program_id = i.program_id or s.account = i.account)
            order by s.program_id limit 1
        ) e on true
        where i.ord <= i.leader
    ), judged as materialized (  -- accepted events lie end to end on each account's credit: from `balance` down
        select k.*, balance - balance_at as starts_at, balance - balance_after as ends_at,
               (case when account_id is null then 'unknown_account' when is_closed then 'account_closed'
                     when amount <= balance_at then 'accepted' else 'insufficient_credit' end)::refill.outcome as verdict
        from (
            select k.*, case when not is_closed then
                       lag(balance_after, 1, balance) over (partition by account_id order by ord) end as balance_at
            from (
                select ord, event_id, program_id, account_id, account, amount, spent_at, ref, memo, actor, balance, is_closed,
                       case when not is_closed then refill.left_after(balance, amount) over (
                           partition by account_id order by ord rows unbounded preceding) end as balance_after
                from known where not is_replay
            ) k
        ) k
    ), kept as (
        insert into refill.spend_event (event_id, program_id, account_id, account, amount, outcome, balance_after, shortfall,
                                        spent_at, ref, memo, actor, posted_at)
        select j.event_id, j.program_id, j.account_id, case when j.account_id is null then j.account end, j.amount, j.verdict,
               j.balance_after,
               case j.verdict when 'accepted' then 0 when 'insufficient_credit' then j.amount - j.balance_after end,
               j.spent_at, j.ref, j.memo, j.actor, v_now
        from judged j order by j.event_id, j.program_id  -- two batches with the same ids do not wait in a circle
    ), refused as (
        insert into refill.event_log (at, type, account_id, account, data)
        select v_now, 'spend.refused', j.account_id, case when j.account_id is null then j.account end,
               jsonb_build_object('event_id', j.event_id, 'code', j.verdict, 'required', j.amount, 'available', j.balance_after,
                                  'shortfall', case j.verdict when 'insufficient_credit' then j.amount - j.balance_after end)
        from judged j where j.verdict <> 'accepted' order by j.ord
        returning pg_notify('refill_poke', 'publish')
    ), drawn as materialized (
        select account_id, sum(amount)::bigint as amount from judged where amount <= balance_at group by account_id
    ), layers as materialized (  -- the lots of each account end to end, in the order in which they are drawn
        select l.lot_id, l.account_id, l.remaining,
               (sum(l.remaining) over (partition by l.account_id order by l.expires_at, l.class, l.effective_at, l.lot_id
                                       rows unbounded preceding))::bigint as ends_at
        from drawn t join refill.lot l on l.account_id = t.account_id and l.open
    ), draws as materialized (
        select j.account_id, j.program_id, j.event_id, l.lot_id,
               least(j.ends_at, l.ends_at) - greatest(j.starts_at, l.ends_at - l.remaining) as amount,
               j.balance - least(j.ends_at, l.ends_at) as balance_after
        from judged j join layers l
            on l.account_id = j.account_id and l.ends_at - l.remaining < j.ends_at and l.ends_at > j.starts_at
        where j.amount <= j.balance_at
    ), booked as (
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance, event_id)
        select v_now, 'spend', d.program_id, d.account_id, refill.own_side(d.program_id, 'revenue'), d.amount, d.lot_id,
               d.balance_after, d.event_id
        from draws d order by d.account_id, d.balance_after desc
    ), emptied as (
        update refill.lot l set remaining = l.remaining - t.amount
        from (select lot_id, sum(amount)::bigint as amount from draws group by lot_id) t
        where l.lot_id = t.lot_id
    ), settled as (
        update refill.account a
        set balance = a.balance - t.amount, updated_at = v_now,
            idle_expires_at = case when p.expiry_kind = 'inactivity' then v_now + make_interval(days => p.expiry_days)
                                   else a.idle_expires_at end
        from drawn t, refill.program p
        where a.account_id = t.account_id and p.program_id = a.program_id
    ), answers as (  -- the outcome of each leading event, with the content that it stands for
        select ord, account_id, account, amount, spent_at, ref, memo, actor, verdict as outcome, balance_after
        from judged
        union all
        select ord, first_account_id, coalesce(first_account, account), first_amount, first_spent_at, first_ref,
               first_memo, first_actor, first_outcome, first_balance
        from known where is_replay
    ), compared as (
        select i.ord, i.amount, a.outcome, a.balance_after,
               case when a.account_id is null then a.account = i.account else a.account_id is not distinct from i.account_id end
               and a.amount = i.amount and a.spent_at is not distinct from i.spent_at and a.ref is not distinct from i.ref
               and a.memo is not distinct from i.memo and a.actor is not distinct from i.actor as is_same
        from input i join answers a on a.ord = i.leader
    )
    select c.ord, c.outcome, c.balance_after, c.amount,
           case c.outcome when 'accepted' then c.balance_after + c.amount when 'insufficient_credit' then c.balance_after end,
           case c.outcome when 'accepted' then 0 when 'insufficient_credit' then c.amount - c.balance_after end
    from compared c where c.is_same
    union all
    select c.ord, 'conflict', null, c.amount, null, null from compared c where not c.is_same;
end $$;

-- For upstream, inside its own transaction: posts one spend event and returns its outcome. Call it last: the account stays
-- locked until that transaction ends. Same rules, same code as the stream; `malformed` is answered and nothing is kept.
-- Two transactions that post the same id on different accounts at the same moment: the later one gets unique_violation and
-- is to be tried again, like any that fails with a serialization error or a deadlock.
create or replace function refill.spend(account text, amount bigint, id text, ref text default null, memo text default null)
returns table (outcome text, balance bigint, required bigint, available bigint, shortfall bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
-- One event is planned once per session and then found through indexes; planning it each time would cost more than posting it.
set plan_cache_mode = force_generic_plan
as $$
begin
    if account is null or account = '' or length(account) > 64 or coalesce(length(id), 0) not between 1 and 64
       or amount is null or amount <= 0 or length(ref) > 500 or length(memo) > 500 then
        return query select 'malformed', null::bigint, amount, null::bigint, null::bigint;
        return;
    end if;
    return query
        select p.outcome::text, p.balance, p.required, p.available, p.shortfall
        from refill.post_spend(array[id], array[account], array[amount], array[null::timestamptz], array[ref], array[memo],
                               array[null::text]) p;
end $$;

-- Grants one lot each to several accounts: `purchase` and `recharge` as paid lots out of sales, `promotion` out of promotion.
-- The arrays run in step. Locks, then posts; returns the lot and the balance of each account. Raises data_exception where an
-- account is named twice or does not exist: half a grant would be worse than none.
create or replace function refill.post_grants(
    p_account_ids bigint[], p_amounts bigint[], p_expires_ats timestamptz[], p_prices_minor bigint[], p_kind refill.entry_kind,
    p_charge_id bigint, p_event_id text, p_memo text, p_actor text, p_now timestamptz default null
) returns table (account_id bigint, lot_id bigint, balance bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    v_now timestamptz;
    v_class refill.lot_class := case when p_kind = 'promotion' then 'promotional' else 'paid' end;
    v_side text := case when p_kind = 'promotion' then 'promotion' else 'sales' end;
begin
    perform refill.lock_accounts(p_account_ids);
    if (select count(*) from refill.account a where a.account_id = any(p_account_ids)) <> cardinality(p_account_ids) then
        raise exception 'a grant names each of its accounts once, and they exist: %', p_account_ids using errcode = 'data_exception';
    end if;
    v_now := coalesce(p_now, clock_timestamp());
    perform refill.expire_before_posting(p_account_ids, v_now);

    return query
    with input as materialized (
        select i.*, a.program_id, a.balance, p.currency, p.expiry_kind, p.expiry_days
        from unnest(p_account_ids, p_amounts, p_expires_ats, p_prices_minor) as i(account_id, amount, expires_at, price_minor)
        join refill.account a on a.account_id = i.account_id join refill.program p on p.program_id = a.program_id
    ), lots as (
        insert into refill.lot (account_id, class, granted, remaining, price_minor, currency, effective_at, expires_at, charge_id)
        select account_id, v_class, amount, amount, price_minor, currency, v_now, expires_at, p_charge_id from input
        returning account_id, lot_id
    ), booked as (
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, to_balance, charge_id, event_id, memo, actor)
        select v_now, p_kind, i.program_id, refill.own_side(i.program_id, v_side), i.account_id, i.amount, l.lot_id,
               i.balance + i.amount, p_charge_id, p_event_id, p_memo, p_actor
        from input i join lots l on l.account_id = i.account_id order by i.account_id
    ), settled as (  -- a purchase is activity; a gift only keeps itself alive where the account had been silent too long
        update refill.account a
        set balance = a.balance + i.amount, expires_next = least(a.expires_next, i.expires_at), updated_at = v_now,
            idle_expires_at = case
                when i.expiry_kind <> 'inactivity' then a.idle_expires_at
                when v_class = 'paid' or a.idle_expires_at <= v_now or a.idle_expires_at = 'infinity'
                    then v_now + make_interval(days => i.expiry_days)
                else a.idle_expires_at end
        from input i where a.account_id = i.account_id
    )
    select l.account_id, l.lot_id, i.balance + i.amount from lots l join input i on i.account_id = l.account_id;
end $$;

-- The contract for other services: read-only views. Dead credit is never visible, swept or not.
create or replace view refill.balance as
select a.name as account, p.name as program, o.name as organisation, live.balance,
       0::bigint as held,  -- no command of this release holds credit back
       coalesce((select sum(l.credits) from refill.charge_line l where l.account_id = a.account_id and l.open), 0)::bigint as pending,
       live.next_expiry_at,
       case when live.next_expiry_at is not null then live.next_expiry_amount end as next_expiry_amount,
       case when live.balance = 0 then 'depleted' when live.balance < coalesce(a.alert_below, 0) then 'low' else 'ok' end as state
from refill.account a
join refill.program p on p.program_id = a.program_id
join refill.organisation o on o.organisation_id = a.organisation_id
cross join lateral (
    select coalesce(sum(remaining), 0)::bigint as balance,
           nullif(min(dies_at), 'infinity') as next_expiry_at,
           coalesce(sum(remaining) filter (where dies_at = first_dies_at), 0)::bigint as next_expiry_amount
    from (
        select l.remaining, least(l.expires_at, a.idle_expires_at) as dies_at,
               min(least(l.expires_at, a.idle_expires_at)) over () as first_dies_at
        from refill.lot l
        where l.account_id = a.account_id and l.open and l.effective_at <= statement_timestamp() and least(l.expires_at, a.idle_expires_at) > statement_timestamp()
    ) l
) live;

create or replace view refill.entry_history as
select e.entry_id, e.at, a.name as account, e.kind::text as kind, side.sign * e.amount as amount, side.balance_after, e.lot_id,
       e.event_id, s.ref, coalesce(s.memo, e.memo) as memo, coalesce(s.actor, e.actor) as actor
from refill.account a
cross join lateral (
    select -1 as sign, f.from_balance as balance_after, f.entry_id from refill.entry f where f.from_side = a.account_id and f.from_side > 0
    union all
    select 1, t.to_balance, t.entry_id from refill.entry t where t.to_side = a.account_id and t.to_side > 0
) side
join refill.entry e on e.entry_id = side.entry_id
left join refill.spend_event s on e.kind = 'spend' and s.event_id = e.event_id and s.program_id = e.program_id;

create or replace view refill.spend_outcome as
select s.event_id, coalesce(a.name, s.account) as account, s.amount, s.outcome::text as outcome, s.balance_after, s.shortfall,
       s.posted_at as at
from refill.spend_event s left join refill.account a on a.account_id = s.account_id;

create or replace view refill.charge_history as
select c.charge_id, a.name as account, c.reason, c.state::text as state, l.credits, l.amount_minor as amount, c.currency,
       c.fingerprint as card_fingerprint,
       (select count(*) from refill.attempt t where t.charge_id = c.charge_id and t.state <> 'released') as attempts,
       c.decline, c.opened_at, c.settled_at, i.invoice_number
from refill.charge c
join refill.charge_line l on l.charge_id = c.charge_id
join refill.account a on a.account_id = l.account_id
left join refill.invoice i on i.charge_id = c.charge_id;

create or replace view refill.decision as
select a.name as account, d.at, d.seen_at, d.projected, d.recharge_below, d.verdict::text as verdict, d.next_at, d.charge_id
from refill.evaluation d join refill.account a on a.account_id = d.account_id;

create or replace view refill.event as
select e.seq, e.at, e.type, coalesce(a.name, e.account) as account, e.data
from refill.event_log e left join refill.account a on a.account_id = e.account_id
where e.seq is not null;

-- Two roles for other services: refill_read sees the views of the contract, refill_spend may also call refill.spend(). Neither
-- can touch a table. Roles belong to the whole server, so another database may have made them already, or be doing so now.
do $$
declare
    v_role text;
begin
    foreach v_role in array array['refill_read', 'refill_spend'] loop
        if not exists (select from pg_roles where rolname = v_role) then
            begin
                execute format('create role %I nologin', v_role);
            exception when duplicate_object or unique_violation then
                raise notice 'role % was made by another migration just now', v_role;
            end;
        end if;
    end loop;
end $$;

revoke all on all tables in schema refill from public;
revoke all on all functions in schema refill from public;
grant usage on schema refill to refill_read, refill_spend;
grant select on refill.balance, refill.entry_history, refill.spend_outcome, refill.charge_history, refill.decision, refill.event,
    refill.quarantine to refill_read, refill_spend;
grant execute on function refill.spend(text, bigint, text, text, text) to refill_spend;

