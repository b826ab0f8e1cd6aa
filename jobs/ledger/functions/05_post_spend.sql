-- Posts a batch of spend events: lock, then post.
--
-- One statement locks the accounts in id order and brings what it found there, as new as the lock; only then others, with
-- snapshots as new as the lock, read lots and outcomes and write. One statement that did both would read lots from before its
-- lock was granted.
--
-- Events are posted per account in the order of the arrays, all or nothing, each answered as refill.post_spend_one says. A batch
-- of less than `p_set_min` events is posted one by one. In a larger one the usual is posted as a set (refill.post_plain_spends),
-- and what is left, on other accounts, one by one after it. Raises unique_violation or deadlock_detected where another
-- transaction has just posted the same id on another account: the caller tries again.
create or replace function refill.post_spend(
    p_event_ids text[], p_accounts text[], p_amounts bigint[], p_spent_ats timestamptz[], p_refs text[], p_memos text[],
    p_actors text[], p_now timestamptz default null, p_set_min int default 12
) returns table (ord int, outcome refill.outcome, balance bigint, required bigint, available bigint, shortfall bigint)
language plpgsql
set enable_seqscan = off  -- the plans of single events stay right while tables grow that were empty when a session began
as $$
declare
    v_plain record;
    v_ord int;
    v_others int[];
begin
    if cardinality(p_event_ids) < p_set_min then  -- planning the set would cost more than so many single events
        v_others := refill.order_single_spends(p_event_ids, p_accounts);
    else
        select * into v_plain from refill.post_plain_spends(
            p_event_ids, p_accounts, p_amounts, p_spent_ats, p_refs, p_memos, p_actors, p_now);
        v_others := v_plain.others;
        return query select u.ord, 'accepted'::refill.outcome, u.balance, u.amount, u.balance + u.amount, 0::bigint
            from unnest(v_plain.ords, v_plain.balances, v_plain.amounts) as u(ord, balance, amount);
    end if;
    foreach v_ord in array coalesce(v_others, '{}') loop
        return query select v_ord, p.* from refill.post_spend_one(
            p_event_ids[v_ord], p_accounts[v_ord], p_amounts[v_ord], p_spent_ats[v_ord], p_refs[v_ord], p_memos[v_ord],
            p_actors[v_ord], p_now) p;
    end loop;
end $$;

-- Locks the accounts of a few events and returns the places of the events in the order in which to post them: as they came, and
-- those of unknown accounts, which no lock keeps apart, last and by their ids, so that two batches do not wait in a circle.
create or replace function refill.order_single_spends(p_event_ids text[], p_accounts text[]) returns int[]
language plpgsql as $$
begin
    if cardinality(p_event_ids) = 1 then return '{1}'; end if;
    perform from refill.account a where a.name = any(p_accounts) order by a.account_id for no key update;
    return array(
        select i.ord::int from unnest(p_event_ids, p_accounts) with ordinality as i(event_id, account, ord)
        left join refill.account a on a.name = i.account
        order by case when a.account_id is null then i.event_id end collate "C" nulls first, i.ord);
end $$;

-- Sums credits without the detour over numeric that sum(bigint) takes; only for what is known to fit.
create or replace aggregate refill.add_up(bigint) (sfunc = int8pl, stype = bigint, initcond = '0');

-- Locks every account of a batch and posts the events of those where nothing is to be decided: the account is known and open,
-- no id of its events was met before, in this batch or any other, and its balance suffices for all of them. Returns their places
-- in the batch with amounts and balances, and the places of the other events, in the order in which to post them.
--
-- The settings pin the plan. Arrays are planned for their length each time, not once for any length, to which Postgres would
-- turn after five batches (tests/ledger/test_posting_plan.py holds both to the same rows). Postgres cannot know how many rows join here and guesses up to a thousand
-- times too many, so that it would read whole tables to hash them, sort for merge joins, and compile with JIT what runs once;
-- `offset 0` keeps the lots a matter of one index probe for each account. Rows that are locked stay where they are, so that
-- they are updated where they were found (ctid) instead of being looked up once more; what is updated is counted.
create or replace function refill.post_plain_spends(
    p_event_ids text[], p_accounts text[], p_amounts bigint[], p_spent_ats timestamptz[], p_refs text[], p_memos text[],
    p_actors text[], p_now timestamptz,
    out ords int[], out amounts bigint[], out balances bigint[], out others int[]
) language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
set work_mem = '64MB'
as $$
#variable_conflict use_column
declare
    v_account_ids bigint[];
    v_tids tid[];
    v_names text[];
    v_program_ids int[];
    v_balances bigint[];  -- null where the account is closed
    v_due_at timestamptz;
    v_now timestamptz;
    v_accounts bigint;
    v_settled bigint;
    v_covered bigint;
begin
    select array_agg(account_id), array_agg(ctid), array_agg(name::text), array_agg(program_id),
           array_agg(case when closed_at is null then balance::bigint end), min(least(expires_next, idle_expires_at))
    into v_account_ids, v_tids, v_names, v_program_ids, v_balances, v_due_at
    from (select *, ctid from refill.account a where a.name = any(p_accounts) order by a.account_id for no key update) locked;
    v_now := coalesce(p_now, clock_timestamp());
    if v_due_at <= v_now then
        perform refill.expire_before_posting(v_account_ids, v_now);
        select array_agg(ctid order by account_id), array_agg(case when closed_at is null then balance::bigint end order by account_id)
        into v_tids, v_balances
        from refill.account where account_id = any(v_account_ids);
    end if;

    with judged as materialized (  -- plain events lie end to end on each account's credit: from `balance` down
        select i.*, balance - balance_after as ends_at, balance - balance_after - amount as starts_at
        from (
            select i.*, lead(ord) over (partition by account_id order by ord) is null as is_last,
                   case when is_plain then balance - refill.add_up(case when is_plain then amount else 0 end) over (
                       partition by account_id order by ord rows unbounded preceding) end as balance_after
            from (
                select i.*, (bool_and(is_new) over (partition by account_id)
                             and sum(amount) over (partition by account_id) <= balance) is true as is_plain
                from (
                    select i.ord::int, i.event_id, i.amount, i.spent_at, i.ref, i.memo, i.actor,
                           a.account_id, a.tid, a.program_id, a.balance,
                           a.balance is not null
                           and lag(i.event_id) over (order by i.event_id collate "C") is distinct from i.event_id
                           and lead(i.event_id) over (order by i.event_id collate "C") is distinct from i.event_id
                           and not exists (select from refill.spend_event s
                                           where s.event_id = i.event_id and s.program_id in (a.program_id, 0)) as is_new
                    from unnest(p_event_ids, p_accounts, p_amounts, p_spent_ats, p_refs, p_memos, p_actors)
                         with ordinality as i(event_id, account, amount, spent_at, ref, memo, actor, ord)
                    left join unnest(v_account_ids, v_tids, v_names, v_program_ids, v_balances)
                         as a(account_id, tid, name, program_id, balance) on a.name = i.account
                ) i
            ) i
        ) i
    ), kept as (
        insert into refill.spend_event (event_id, program_id, account_id, amount, outcome, balance_after, shortfall,
                                        spent_at, ref, memo, actor, posted_at)
        select event_id, program_id, account_id, amount, 'accepted', balance_after, 0, spent_at, ref, memo, actor, v_now
        from judged where is_plain order by event_id collate "C", program_id  -- two batches with the same ids do not wait in a circle
    ), drawn as materialized (
        select account_id, tid, program_id, ends_at as amount from judged where is_plain and is_last
    ), layers as materialized (  -- the lots of each account end to end, in the order in which they are drawn
        select l.lot_id, l.tid, l.account_id, l.remaining, t.amount as drawn,
               refill.add_up(l.remaining) over (partition by l.account_id order by l.expires_at, l.class, l.effective_at, l.lot_id
                                                rows unbounded preceding) as ends_at
        from drawn t
        cross join lateral (select *, ctid as tid from refill.lot l where l.account_id = t.account_id and l.open offset 0) l
    ), draws as materialized (
        select j.account_id, j.program_id, j.event_id, l.lot_id,
               least(j.ends_at, l.ends_at) - greatest(j.starts_at, l.ends_at - l.remaining) as amount,
               j.balance - least(j.ends_at, l.ends_at) as balance_after
        from judged j join layers l
            on l.account_id = j.account_id and l.ends_at - l.remaining < j.ends_at and l.ends_at > j.starts_at
        where j.is_plain
    ), booked as (
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance, event_id)
        select v_now, 'spend', program_id, account_id, refill.own_side(program_id, 'revenue'), amount, lot_id, balance_after,
               event_id
        from draws order by account_id, balance_after desc
    ), emptied as (
        update refill.lot l set remaining = greatest(t.ends_at - t.drawn, 0)
        from layers t where l.ctid = t.tid and t.ends_at - t.remaining < t.drawn
        returning t.ends_at >= t.drawn as is_last
    ), settled as (
        update refill.account a
        set balance = a.balance - t.amount, updated_at = v_now,
            idle_expires_at = case when p.expiry_kind = 'inactivity' then v_now + make_interval(hours => 24 * p.expiry_days)
                                   else a.idle_expires_at end
        from drawn t, refill.program p
        where a.ctid = t.tid and p.program_id = t.program_id
        returning a.account_id
    )
    select array_agg(ord) filter (where is_plain), array_agg(amount) filter (where is_plain),
           array_agg(balance_after) filter (where is_plain),
           array_agg(ord order by case when account_id is null then event_id end collate "C" nulls first, ord)
               filter (where not is_plain),
           count(*) filter (where is_plain and is_last) as accounts, (select count(*) from settled) as settled,
           (select count(*) from emptied where is_last) as covered
    into ords, amounts, balances, others, v_accounts, v_settled, v_covered
    from judged;
    if v_settled <> v_accounts or v_covered <> v_accounts then
        raise exception 'of % accounts % were settled, and the lots of % hold what was spent', v_accounts, v_settled, v_covered
            using errcode = 'integrity_constraint_violation', hint = 'refill audit shows what is wrong.';
    end if;
end $$;
