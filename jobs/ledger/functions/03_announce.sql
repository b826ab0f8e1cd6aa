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
--
-- The settings pin the plan: the newest entries from each month's index, merged. For an empty month, as the first of each is,
-- Postgres would plan to read it whole and keep that plan while it fills; and it would sort all entries of a busy account.
create or replace function refill.crossing_event(p_before refill.account, p_after refill.account, p_level bigint) returns text
language sql stable
set enable_seqscan = off
set enable_sort = off
as $$
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
