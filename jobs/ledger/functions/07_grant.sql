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
                    then v_now + make_interval(hours => 24 * i.expiry_days)
                else a.idle_expires_at end
        from input i where a.account_id = i.account_id
    )
    select l.account_id, l.lot_id, i.balance + i.amount from lots l join input i on i.account_id = l.account_id;
end $$;
