-- Locks accounts in id order: every posting begins here, so that two of them never wait for each other in a circle.
create or replace function refill.lock_accounts(p_account_ids bigint[]) returns void
language sql as $$
    select from refill.account where account_id = any(p_account_ids) order by account_id for no key update
$$;

-- As lock_accounts, for a sweep: accounts that another transaction holds are left to it, and the ids of the others returned. A
-- sweep that waited would hold what it has already, and whoever posts to an account books its expiry anyway.
create or replace function refill.lock_free_accounts(p_account_ids bigint[]) returns bigint[]
language sql as $$
    select array(select account_id from refill.account where account_id = any(p_account_ids)
                 order by account_id for no key update skip locked)
$$;

-- Books the expiry of those of the lots that are dead and open, each lot's remainder to breakage, and returns how much. Their
-- accounts are locked already. A lot is dead at expires_at; all lots of an account are dead once it has been idle for its
-- program's days.
--
-- The settings pin the plan: every row is found through an index by its id, whatever Postgres thinks of the arrays' lengths, and
-- updated where it was found, which under the lock is where it is. What the change of a balance sets off is told for all accounts together; the trigger on refill.account would do so for each.
create or replace function refill.expire_lots(p_lot_ids bigint[], p_now timestamptz,
                                              out lots bigint, out credits bigint, out accounts bigint)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
declare
    v_account_ids bigint[];
    v_credits bigint[];
    v_changes refill.balance_change[];
    v_emptied bigint;
begin
    with due as materialized (
        select l.lot_id, l.ctid as tid, l.account_id, l.remaining, a.program_id,
               a.balance - sum(l.remaining) over (partition by l.account_id order by l.expires_at, l.lot_id) as balance_after
        from unnest(p_lot_ids) i(lot_id) join refill.lot l on l.lot_id = i.lot_id join refill.account a on a.account_id = l.account_id
        where l.open and least(l.expires_at, a.idle_expires_at) <= p_now
    ), booked as (
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance)
        select p_now, 'expiry', program_id, account_id, refill.own_side(program_id, 'breakage'), remaining, lot_id, balance_after
        from due order by account_id, balance_after desc
    ), emptied as (
        update refill.lot l set remaining = 0 from due where l.ctid = due.tid returning 1
    ), lost as materialized (
        select account_id, sum(remaining)::bigint as credits, count(*) as lots from due group by account_id
    ), told as (
        insert into refill.event_log (at, type, account_id, data)
        select p_now, 'credit.expired', account_id, jsonb_build_object('credits', l.credits, 'lots', l.lots) from lost l
    )
    select coalesce(sum(l.lots), 0), coalesce(sum(l.credits), 0), count(*), array_agg(account_id), array_agg(l.credits),
           (select count(*) from emptied)
    into lots, credits, accounts, v_account_ids, v_credits, v_emptied from lost l;
    if v_emptied <> lots then
        raise exception 'of % dead lots % were emptied', lots, v_emptied using errcode = 'integrity_constraint_violation';
    end if;
    if lots = 0 then return; end if;
    perform pg_notify('refill_poke', 'publish');

    perform set_config('refill.announced_by', 'function', true);  -- as a setting of the function only a superuser could say it
    with settled as (  -- a statement of its own: it sees which lots are open now
        update refill.account a
        set balance = a.balance - l.credits, updated_at = p_now,
            expires_next = coalesce((select min(o.expires_at) from refill.lot o where o.account_id = l.account_id and o.open), 'infinity')
        from unnest(v_account_ids, v_credits) l(account_id, credits) join refill.account b on b.account_id = l.account_id
        where a.ctid = b.ctid
        returning case when a.closed_at is null and (a.band <> b.band or a.below_trigger <> b.below_trigger)
                       then row(b, a)::refill.balance_change end as change
    )
    select array_agg(change) filter (where change is distinct from null) into v_changes from settled;
    perform set_config('refill.announced_by', '', true);
    if v_changes is not null then perform refill.announce(v_changes, false); end if;
end $$;

-- Books whatever is dead on accounts that are locked already, and returns how much.
create or replace function refill.expire_due(p_account_ids bigint[], p_now timestamptz, out lots bigint, out credits bigint)
language plpgsql as $$
begin
    select e.lots, e.credits into lots, credits
    from refill.expire_lots(array(
        select l.lot_id from refill.account a join refill.lot l on l.account_id = a.account_id and l.open
        where a.account_id = any(p_account_ids) and least(l.expires_at, a.idle_expires_at) <= p_now), p_now) e;
    update refill.account a
    set expires_next = coalesce((select min(l.expires_at) from refill.lot l where l.account_id = a.account_id and l.open), 'infinity')
    where account_id = any(p_account_ids) and expires_next <= p_now;
end $$;

-- The dead lots after this one, in the order in which the sweep books them. `p_now` is a value and no function, so that the index
-- is read up to it and no further.
create or replace function refill.due_lots(p_after timestamptz, p_after_lot_id bigint, p_now timestamptz, p_most int)
returns table (lot_id bigint, account_id bigint, expires_at timestamptz)
language sql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
    select l.lot_id, l.account_id, l.expires_at from refill.lot l
    where l.open and l.expires_at < 'infinity' and l.expires_at <= p_now and (l.expires_at, l.lot_id) > (p_after, p_after_lot_id)
    order by l.expires_at, l.lot_id limit p_most
$$;

-- Accounts that may have been silent for too long, and so must be looked at, after this one.
create or replace function refill.due_silences(p_after timestamptz, p_after_account_id bigint, p_now timestamptz, p_most int)
returns table (account_id bigint, look_at timestamptz)
language sql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
    select s.account_id, s.look_at from refill.silence s
    where s.look_at <= p_now and (s.look_at, s.account_id) > (p_after, p_after_account_id)
    order by s.look_at, s.account_id limit p_most
$$;

-- Books up to p_most dead lots of accounts that are locked already and were silent for too long. Once none is left, an account
-- is looked at again when it could next have been silent for too long, and one without credit when it has some again.
create or replace function refill.expire_silent(p_account_ids bigint[], p_most int, p_now timestamptz,
                                                out lots bigint, out credits bigint, out accounts bigint)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
begin
    select e.* into lots, credits, accounts from refill.expire_lots(array(
        select l.lot_id from refill.account a join refill.lot l on l.account_id = a.account_id and l.open
        where a.account_id = any(p_account_ids) and a.idle_expires_at <= p_now order by l.account_id, l.lot_id limit p_most), p_now) e;
    update refill.silence s set look_at = a.idle_expires_at from refill.account a
    where s.account_id = any(p_account_ids) and a.account_id = s.account_id and a.balance > 0 and a.idle_expires_at > s.look_at;
    delete from refill.silence s using refill.account a
    where s.account_id = any(p_account_ids) and a.account_id = s.account_id and a.balance = 0;
end $$;

-- Keeps look_at at or before the moment at which an account's credit dies of silence: when there is credit again, and when the
-- moment moves nearer, as after a change of the program.
create or replace function refill.watch_silence() returns trigger
language plpgsql as $$
begin
    insert into refill.silence as s (account_id, look_at) values (new.account_id, new.idle_expires_at)
    on conflict (account_id) do update set look_at = least(s.look_at, excluded.look_at);
    return null;
end $$;

create or replace trigger watch_silence after update on refill.account
    for each row when (new.idle_expires_at < old.idle_expires_at
                       or (old.balance = 0 and new.balance > 0 and new.idle_expires_at < 'infinity'))
    execute function refill.watch_silence();

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
