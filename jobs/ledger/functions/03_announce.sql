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
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
    if p_after.balance >= p_before.balance then return null; end if;
    return (
        select e.event_id
        from (  -- the newest entries are those of this posting, in the partition of its month; a batch has no more
            select * from refill.entry n
            where n.from_side = p_after.account_id and n.from_side > 0 and n.at >= date_trunc('month', p_after.updated_at, 'UTC')
            order by n.from_side desc, n.entry_id desc limit 10000
        ) e
        where e.kind = 'spend' and e.at = p_after.updated_at
          and e.from_balance < p_level and e.from_balance + e.amount >= p_level
        order by e.entry_id desc limit 1
    );
end $$;

-- The levels that divide the bands of an account: 1, its alert level, and that level x 1.1, rounded up.
create or replace function refill.set_band_levels() returns trigger
language plpgsql as $$
begin
    new.band_levels := case when new.alert_below is null then '{1,1,1}'
        else array[1, new.alert_below, ceil(least(new.alert_below::numeric * 1.1, 9223372036854775807))]::bigint[] end;
    return new;
end $$;

create or replace trigger band_levels before insert or update of alert_below on refill.account
    for each row execute function refill.set_band_levels();

-- What changes of balances set off, of one account or of thousands. The caller holds the locks of the accounts.
-- By band: 0 depleted, 1 low, 2 near the alert level, 3 clear of it.
--   low       fires once on falling below the level; re-arms after 15 minutes in band 3; one message per day
--   depleted  fires each time
--   replenished  when credit is back: out of depleted, or out of low
-- By trigger: the account is put before the sweep; also when it rises above again, so that the verdict that stood ends at once.
-- p_by_spend false where no spend can have been the cause.
-- Pokes go out for p_pokes_max messages and as many accounts: whatever moves more at once leaves the others to the sweeps, which
-- would find them anyway, rather than flood the broker.
create or replace function refill.announce(p_changes refill.balance_change[], p_by_spend boolean, p_pokes_max int default 100) returns void
language plpgsql
set plan_cache_mode = force_generic_plan  -- planned once in a session, perhaps while its tables were empty: through indexes
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
declare
    v_events bigint;
    v_messages uuid[];
begin
    with moved as materialized (
        select (after).account_id, (after).name, (after).program_id, (after).email, (after).balance, (after).alert_below,
               (after).updated_at as at, (after).band, (before).band as band_before,
               case when p_by_spend then refill.crossing_event(
                   before, after, case when (after).band = 0 then 1 else (after).alert_below end) end as event_id
        from unnest(p_changes) c where (after).band <> (before).band
    ), judged as materialized (
        select m.*, a.low_sent_at, a.low_sent_at > at - interval '24 hours' as is_told_today,
               coalesce(a.low_armed, true) or (band_before = 3 and a.clear_since <= at - interval '15 minutes') as is_armed
        from moved m left join refill.alert a on a.account_id = m.account_id
    ), told as materialized (
        select j.*, case when band = 0 then 'balance.depleted'
                         when band = 1 and band_before > 1 and is_armed then 'balance.low'
                         when band_before = 0 or (band_before = 1 and band > 1) then 'balance.replenished' end as type
        from judged j
    ), kept as (
        insert into refill.alert (account_id, low_armed, clear_since, low_sent_at)
        select account_id, is_armed and (type is null or type = 'balance.replenished'), case when band = 3 then at end,
               case when type = 'balance.low' and is_told_today is not true then at else low_sent_at end
        from told
        on conflict (account_id) do update
        set low_armed = excluded.low_armed, clear_since = excluded.clear_since, low_sent_at = excluded.low_sent_at
    ), recorded as (
        insert into refill.event_log (at, type, account_id, data)
        select at, type, account_id, jsonb_build_object('balance', balance, 'alert_below', alert_below, 'event_id', event_id)
        from told where type is not null
    ), written as (
        insert into refill.message (account_id, kind, to_address, data, state, next_at, created_at)
        select t.account_id, case type when 'balance.low' then 'low' else 'depleted' end, t.email,
               jsonb_build_object('account', t.name, 'program', p.name, 'balance', balance, 'alert_below', alert_below,
                                  'event_id', event_id),
               case when t.email is null then 'unaddressed' else 'pending' end, at, at
        from told t join refill.program p on p.program_id = t.program_id
        where type = 'balance.depleted' or (type = 'balance.low' and is_told_today is not true)
        returning message_id, state
    )
    select (select count(*) from told where type is not null), array(select message_id from written where state = 'pending')
    into v_events, v_messages;
    if v_events > 0 then perform pg_notify('refill_poke', 'publish'); end if;
    perform pg_notify('refill_poke', 'deliver ' || m) from unnest(v_messages[:p_pokes_max]) m;

    insert into refill.watch as w (account_id, due_at, since, event_id)
    select (after).account_id, (after).updated_at, (after).updated_at,
           case when (after).below_trigger and p_by_spend then refill.crossing_event(before, after, (after).recharge_below) end
    from unnest(p_changes) c where (after).below_trigger <> (before).below_trigger
    on conflict (account_id) do update set due_at = excluded.due_at, event_id = coalesce(excluded.event_id, w.event_id);
    perform pg_notify('refill_poke', 'evaluate ' || (after).account_id) from (
        select after from unnest(p_changes) c where (after).below_trigger <> (before).below_trigger limit p_pokes_max) c;
end $$;

create or replace function refill.announce_account() returns trigger
language plpgsql as $$
begin
    perform refill.announce(array[row(old, new)::refill.balance_change], true);
    return null;
end $$;

-- Off while a function has set refill.announced_by, which then tells itself what it changed: a call for each row would cost
-- more than all the rest of a large expiry.
create or replace trigger announce after update on refill.account
    for each row when (new.closed_at is null and (new.band <> old.band or new.below_trigger <> old.below_trigger)
                       and current_setting('refill.announced_by', true) is distinct from 'function')
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
