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
