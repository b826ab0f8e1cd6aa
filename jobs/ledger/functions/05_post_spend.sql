-- Posts a batch of spend events: lock, then post.
--
-- One statement locks the accounts in id order; only then, with a snapshot as new as the lock, a second one reads lots and
-- outcomes and writes everything. One statement that did both would read lots from before its lock was granted.
--
-- Events are judged per account in the order of the arrays, all or nothing. An event whose id is known is compared by content
-- with the first of that id: equal gets the first outcome again, anything else is a `conflict`; neither posts anything.
-- Raises unique_violation where another transaction has just posted the same id on another account: the caller tries again.
create or replace function refill.post_spend(
    p_event_ids text[], p_accounts text[], p_amounts bigint[], p_spent_ats timestamptz[], p_refs text[], p_memos text[],
    p_actors text[], p_now timestamptz default null
) returns table (ord int, outcome refill.outcome, balance bigint, required bigint, available bigint, shortfall bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    v_account_ids bigint[];
    v_now timestamptz;
begin
    select array_agg(l.account_id) into v_account_ids from (
        select a.account_id from refill.account a where a.name = any(p_accounts) order by a.account_id for no key update) l;
    v_now := coalesce(p_now, clock_timestamp());
    perform refill.expire_before_posting(v_account_ids, v_now);

    return query
    with input as materialized (  -- program 0 stands for an account that nobody knows
        select i.ord::int, i.event_id, i.account, i.amount, i.spent_at, i.ref, i.memo, i.actor, a.account_id,
               coalesce(a.program_id, 0) as program_id, a.balance, a.closed_at
        from unnest(p_event_ids, p_accounts, p_amounts, p_spent_ats, p_refs, p_memos, p_actors)
             with ordinality as i(event_id, account, amount, spent_at, ref, memo, actor, ord)
        -- An account opened while the locks were waited for is not locked: to this batch it is unknown.
        left join refill.account a on a.name = i.account and a.account_id = any(v_account_ids)
    ), leaders as (  -- the first of each id within the batch
        select event_id, program_id, min(ord) as ord from input group by event_id, program_id
    ), known as materialized (  -- ... and what became of that id before; the lateral pins one index probe for each
        select i.*, e.event_id is not null as is_replay, e.account_id as first_account_id, e.account as first_account,
               e.amount as first_amount, e.spent_at as first_spent_at, e.ref as first_ref, e.memo as first_memo,
               e.actor as first_actor, e.outcome as first_outcome, e.balance_after as first_balance,
               e.shortfall as first_shortfall
        from leaders l join input i on i.ord = l.ord
        left join lateral (
            select * from refill.spend_event s
            where s.event_id = i.event_id and s.program_id in (i.program_id, 0)
              and (s.program_id = i.program_id or s.account = i.account)
            order by s.program_id limit 1
        ) e on true
    ), balances as (
        select ord, account_id, amount, balance as balance_before,
               refill.left_after(balance, amount) over (partition by account_id order by ord rows unbounded preceding) as balance_after
        from known where not is_replay and account_id is not null and closed_at is null
    ), drawn as materialized (  -- accepted events lie end to end on each account's credit: from balance_before down
        select ord, account_id, amount, balance_after, balance_before - balance_after - amount as starts_at,
               balance_before - balance_after as ends_at, balance_before
        from (select b.*, lag(balance_after, 1, balance_before) over (partition by account_id order by ord) as balance_at
              from balances b) b
        where amount <= balance_at
    ), judged as materialized (
        select k.*, b.balance_after,
               (case when k.account_id is null then 'unknown_account' when k.closed_at is not null then 'account_closed'
                     when d.ord is null then 'insufficient_credit' else 'accepted' end)::refill.outcome as verdict
        from known k left join balances b on b.ord = k.ord left join drawn d on d.ord = k.ord
        where not k.is_replay
    ), kept as (
        insert into refill.spend_event (event_id, program_id, account_id, account, amount, outcome, balance_after, shortfall,
                                        spent_at, ref, memo, actor, posted_at)
        select j.event_id, j.program_id, j.account_id, case when j.account_id is null then j.account end, j.amount, j.verdict,
               j.balance_after, case j.verdict when 'accepted' then 0 when 'insufficient_credit' then j.amount - j.balance_after end,
               j.spent_at, j.ref, j.memo, j.actor, v_now
        from judged j order by j.event_id, j.program_id  -- two batches with the same ids do not wait in a circle
    ), refused as (
        insert into refill.event_log (at, type, account_id, account, data)
        select v_now, 'spend.refused', j.account_id, case when j.account_id is null then j.account end,
               jsonb_build_object('event_id', j.event_id, 'code', j.verdict, 'required', j.amount, 'available', j.balance_after,
                                  'shortfall', case j.verdict when 'insufficient_credit' then j.amount - j.balance_after end)
        from judged j where j.verdict <> 'accepted' order by j.ord
        returning pg_notify('refill_poke', 'publish')
    ), layers as materialized (  -- the lots of each account end to end, in the order in which they are drawn
        select l.lot_id, l.account_id,
               sum(l.remaining) over layer - l.remaining as starts_at, sum(l.remaining) over layer as ends_at
        from (select distinct account_id from drawn) t join refill.lot l on l.account_id = t.account_id and l.open
        window layer as (partition by l.account_id order by l.expires_at, l.class, l.effective_at, l.lot_id rows unbounded preceding)
    ), draws as materialized (
        select d.ord, d.account_id, l.lot_id, least(d.ends_at, l.ends_at) - greatest(d.starts_at, l.starts_at) as amount,
               d.balance_before - least(d.ends_at, l.ends_at) as balance_after
        from drawn d join layers l on l.account_id = d.account_id and l.starts_at < d.ends_at and l.ends_at > d.starts_at
    ), booked as (
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance, event_id)
        select v_now, 'spend', j.program_id, d.account_id, refill.own_side(j.program_id, 'revenue'), d.amount, d.lot_id,
               d.balance_after, j.event_id
        from draws d join judged j on j.ord = d.ord
        order by d.account_id, d.balance_after desc
    ), emptied as (
        update refill.lot l set remaining = l.remaining - t.amount
        from (select lot_id, sum(amount)::bigint as amount from draws group by lot_id) t
        where l.lot_id = t.lot_id
    ), settled as (
        update refill.account a
        set balance = a.balance - t.amount, updated_at = v_now,
            idle_expires_at = case when p.expiry_kind = 'inactivity' then v_now + make_interval(days => p.expiry_days)
                                   else a.idle_expires_at end
        from (select account_id, sum(amount)::bigint as amount from drawn group by account_id) t, refill.program p
        where a.account_id = t.account_id and p.program_id = a.program_id
    ), answers as (  -- the outcome of each leading event, with the content that it stands for
        select event_id, program_id, account_id, account, amount, spent_at, ref, memo, actor, verdict as outcome, balance_after
        from judged
        union all
        select event_id, program_id, first_account_id, coalesce(first_account, account), first_amount, first_spent_at, first_ref,
               first_memo, first_actor, first_outcome, first_balance
        from known where is_replay
    ), compared as (
        select i.ord, i.amount, a.outcome, a.balance_after,
               case when a.account_id is null then a.account = i.account else a.account_id is not distinct from i.account_id end
               and a.amount = i.amount and a.spent_at is not distinct from i.spent_at and a.ref is not distinct from i.ref
               and a.memo is not distinct from i.memo and a.actor is not distinct from i.actor as is_same
        from input i join answers a on a.event_id = i.event_id and a.program_id = i.program_id
    )
    select c.ord, c.outcome, c.balance_after, c.amount,
           case c.outcome when 'accepted' then c.balance_after + c.amount when 'insufficient_credit' then c.balance_after end,
           case c.outcome when 'accepted' then 0 when 'insufficient_credit' then c.amount - c.balance_after end
    from compared c where c.is_same
    union all
    select c.ord, 'conflict', null, c.amount, null, null from compared c where not c.is_same;
end $$;
