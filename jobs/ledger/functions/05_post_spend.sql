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
