-- For upstream, inside its own transaction: posts one spend event and returns its outcome. Call it last: the account stays
-- locked until that transaction ends. Same rules, same code as the stream; `malformed` is answered and nothing is kept.
-- A transaction that fails with a deadlock or a serialization error is to be tried again, as ever with Postgres.
create or replace function refill.spend(account text, amount bigint, id text, ref text default null, memo text default null)
returns table (outcome text, balance bigint, required bigint, available bigint, shortfall bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
-- Planned once per session and found through indexes; a plan made while a table was empty stays right when it grows.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    if current_setting('refill.announced_by', true) <> '' then  -- a crossing is told, whatever the caller's session has set
        perform set_config('refill.announced_by', '', true);
    end if;
    if account is null or account = '' or length(account) > 64 or coalesce(length(id), 0) not between 1 and 64
       or amount is null or amount <= 0 or length(ref) > 500 or length(memo) > 500 then
        return query select 'malformed', null::bigint, amount, null::bigint, null::bigint;
        return;
    end if;
    return query
        select p.outcome::text, p.balance, p.required, p.available, p.shortfall
        from refill.post_spend_one(id, account, amount, null, ref, memo, null, null) p;
end $$;
