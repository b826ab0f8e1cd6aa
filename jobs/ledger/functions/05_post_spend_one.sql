-- Posts one spend event, statement by statement: the rule of spending in its plainest form, and the only one that refuses,
-- answers a replay or meets an account that is not known. Under the lock on the account it keeps the event, which is where a
-- known id shows, draws the lots in their order, and writes one entry for each draw.
--
-- The first of an id is kept with its outcome. An event whose id is known is compared by content with that first one: equal
-- gets the first outcome again, anything else is a `conflict`; neither posts anything. Program 0 holds the ids of accounts
-- that nobody knew, and answers for them when an account of that name is opened later.
--
-- Days are of 24 hours, as in UTC: upstream's session may be in a time zone where the clocks change.
create or replace function refill.post_spend_one(
    p_event_id text, p_account text, p_amount bigint, p_spent_at timestamptz, p_ref text, p_memo text, p_actor text,
    p_now timestamptz,
    out outcome refill.outcome, out balance bigint, out required bigint, out available bigint, out shortfall bigint
) language plpgsql as $$
#variable_conflict use_column
declare
    v_account record;
    v_now timestamptz;
    v_outcome refill.outcome;
    v_balance bigint;
begin
    select a.account_id, a.program_id, a.balance, a.closed_at is not null as is_closed, p.expiry_kind, p.expiry_days,
           least(a.expires_next, a.idle_expires_at) as due_at
    into v_account
    from refill.account a join refill.program p on p.program_id = a.program_id
    where a.name = p_account for no key update of a;
    v_now := coalesce(p_now, clock_timestamp());
    if v_account.due_at <= v_now then
        perform refill.expire_before_posting(array[v_account.account_id], v_now);
        v_account.balance := (select a.balance from refill.account a where a.account_id = v_account.account_id);
    end if;

    v_outcome := case when v_account.account_id is null then 'unknown_account'
                      when v_account.is_closed then 'account_closed'
                      when p_amount <= v_account.balance then 'accepted'
                      else 'insufficient_credit' end;
    v_balance := case v_outcome when 'accepted' then v_account.balance - p_amount
                                when 'insufficient_credit' then v_account.balance end;
    insert into refill.spend_event (event_id, program_id, account_id, account, amount, outcome, balance_after, shortfall,
                                    spent_at, ref, memo, actor, posted_at)
    select p_event_id, coalesce(v_account.program_id, 0), v_account.account_id,
           case when v_account.account_id is null then p_account end, p_amount, v_outcome, v_balance,
           case v_outcome when 'accepted' then 0 when 'insufficient_credit' then p_amount - v_balance end,
           p_spent_at, p_ref, p_memo, p_actor, v_now
    where not exists (select from refill.spend_event s
                      where s.event_id = p_event_id and s.program_id = 0 and s.account = p_account)
    on conflict do nothing;
    if not found then
        select f.outcome, f.balance into strict v_outcome, v_balance
        from refill.first_outcome(p_event_id, coalesce(v_account.program_id, 0), v_account.account_id, p_account, p_amount,
                                  p_spent_at, p_ref, p_memo, p_actor) f;
    elsif v_outcome = 'accepted' then
        perform refill.draw_lots(v_account.account_id, v_account.program_id, p_amount, v_balance, p_event_id, v_now);
        update refill.account a
        set balance = v_balance, updated_at = v_now,
            idle_expires_at = case when v_account.expiry_kind = 'inactivity'
                                   then v_now + make_interval(hours => 24 * v_account.expiry_days) else a.idle_expires_at end
        where a.account_id = v_account.account_id;
    else
        insert into refill.event_log (at, type, account_id, account, data)
        values (v_now, 'spend.refused', v_account.account_id, case when v_account.account_id is null then p_account end,
                jsonb_build_object('event_id', p_event_id, 'code', v_outcome, 'required', p_amount, 'available', v_balance,
                                   'shortfall', case v_outcome when 'insufficient_credit' then p_amount - v_balance end));
        perform pg_notify('refill_poke', 'publish');
    end if;

    outcome := v_outcome;
    balance := v_balance;
    required := p_amount;
    available := case v_outcome when 'accepted' then v_balance + p_amount when 'insufficient_credit' then v_balance end;
    shortfall := case v_outcome when 'accepted' then 0 when 'insufficient_credit' then p_amount - v_balance end;
end $$;

-- Draws an amount that fits from the lots of an account that is locked: soonest expiry, promotional before paid, oldest, lowest
-- id. `p_balance` is what the account has left when all is drawn.
create or replace function refill.draw_lots(
    p_account_id bigint, p_program_id int, p_amount bigint, p_balance bigint, p_event_id text, p_now timestamptz
) returns void
language plpgsql as $$
declare
    v_lot record;
    v_part bigint;
    v_left bigint := p_amount;
begin
    for v_lot in
        select l.lot_id, l.remaining from refill.lot l where l.account_id = p_account_id and l.open
        order by l.expires_at, l.class, l.effective_at, l.lot_id
    loop
        v_part := least(v_lot.remaining, v_left);
        v_left := v_left - v_part;
        insert into refill.entry (at, kind, program_id, from_side, to_side, amount, lot_id, from_balance, event_id)
        values (p_now, 'spend', p_program_id, p_account_id, refill.own_side(p_program_id, 'revenue'), v_part, v_lot.lot_id,
                p_balance + v_left, p_event_id);
        update refill.lot set remaining = v_lot.remaining - v_part where lot_id = v_lot.lot_id;
        exit when v_left = 0;
    end loop;
    if v_left > 0 then
        raise exception 'the lots of account % hold % credits less than its balance', p_account_id, v_left
            using errcode = 'integrity_constraint_violation', hint = 'refill audit shows what is wrong.';
    end if;
end $$;

-- What an event gets whose id is known: the outcome of the first with that id, or `conflict` where its content was another.
create or replace function refill.first_outcome(
    p_event_id text, p_program_id int, p_account_id bigint, p_account text, p_amount bigint, p_spent_at timestamptz,
    p_ref text, p_memo text, p_actor text, out outcome refill.outcome, out balance bigint
) language sql stable as $$
    select case when is_same then outcome else 'conflict' end, case when is_same then balance_after end
    from (
        select s.outcome, s.balance_after,
               case when s.account_id is null then s.account = p_account else s.account_id is not distinct from p_account_id end
               and s.amount = p_amount and s.spent_at is not distinct from p_spent_at and s.ref is not distinct from p_ref
               and s.memo is not distinct from p_memo and s.actor is not distinct from p_actor as is_same
        from refill.spend_event s
        where s.event_id = p_event_id and s.program_id in (p_program_id, 0)
          and (s.program_id = p_program_id or s.account = p_account)
        order by s.program_id limit 1
    ) first
$$;
