-- The contract for other services: read-only views. Dead credit is never visible, swept or not.
create or replace view refill.balance as
select a.name as account, p.name as program, o.name as organisation, live.balance,
       0::bigint as held,  -- no command of this release holds credit back
       coalesce((select sum(l.credits) from refill.charge_line l where l.account_id = a.account_id and l.open), 0)::bigint as pending,
       live.next_expiry_at,
       case when live.next_expiry_at is not null then live.next_expiry_amount end as next_expiry_amount,
       case when live.balance = 0 then 'depleted' when live.balance < coalesce(a.alert_below, 0) then 'low' else 'ok' end as state
from refill.account a
join refill.program p on p.program_id = a.program_id
join refill.organisation o on o.organisation_id = a.organisation_id
cross join lateral (
    select coalesce(sum(remaining), 0)::bigint as balance,
           nullif(min(dies_at), 'infinity') as next_expiry_at,
           coalesce(sum(remaining) filter (where dies_at = first_dies_at), 0)::bigint as next_expiry_amount
    from (
        select l.remaining, least(l.expires_at, a.idle_expires_at) as dies_at,
               min(least(l.expires_at, a.idle_expires_at)) over () as first_dies_at
        from refill.lot l
        where l.account_id = a.account_id and l.open and l.effective_at <= statement_timestamp() and least(l.expires_at, a.idle_expires_at) > statement_timestamp()
    ) l
) live;

-- Entries of the months that lie in the ledger; `refill archive list` says which were taken out.
create or replace view refill.entry_history as
select e.entry_id, e.at, a.name as account, e.kind::text as kind, e.amount, e.balance_after, e.lot_id,
       e.event_id, s.ref, coalesce(s.memo, e.memo) as memo, coalesce(s.actor, e.actor) as actor
from refill.account a
cross join lateral (
    select f.entry_id, f.at, f.kind, f.program_id, -1 * f.amount as amount, f.from_balance as balance_after, f.lot_id, f.event_id, f.memo, f.actor
    from refill.entry f where f.from_side = a.account_id and f.from_side > 0
    union all
    select t.entry_id, t.at, t.kind, t.program_id, t.amount, t.to_balance, t.lot_id, t.event_id, t.memo, t.actor
    from refill.entry t where t.to_side = a.account_id and t.to_side > 0
) e
left join refill.spend_event s on e.kind = 'spend' and s.event_id = e.event_id and s.program_id = e.program_id;

-- The newest entries of one account, or those before an entry: what `where account = X order by entry_id desc limit N` of the view
-- above gives, without reading them all. Postgres cannot know that the view's account is one account when it plans, and so sorts
-- everything that it has; here the indexes are read backwards, as far as asked.
create or replace function refill.newest_entries(of_account text, most int default 50, before_entry_id bigint default null)
returns table (entry_id bigint, at timestamptz, account text, kind text, amount bigint, balance_after bigint, lot_id bigint,
               event_id text, ref text, memo text, actor text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_account_id constant bigint := (select a.account_id from refill.account a where a.name = of_account);
    v_before constant bigint := coalesce(before_entry_id, 9223372036854775807);
    v_most constant int := least(most, 10000);
begin
    return query
    select e.entry_id, e.at, of_account, e.kind::text, e.amount, e.balance_after, e.lot_id, e.event_id::text, s.ref,
           coalesce(s.memo, e.memo), coalesce(s.actor, e.actor)
    from (
        (select f.entry_id, f.at, f.kind, f.program_id, -f.amount as amount, f.from_balance::bigint as balance_after, f.lot_id,
                f.event_id, f.memo, f.actor
         from refill.entry f where f.from_side = v_account_id and f.from_side > 0 and f.entry_id < v_before
         order by f.from_side desc, f.entry_id desc limit v_most)
        union all
        (select t.entry_id, t.at, t.kind, t.program_id, t.amount, t.to_balance, t.lot_id, t.event_id, t.memo, t.actor
         from refill.entry t where t.to_side = v_account_id and t.to_side > 0 and t.entry_id < v_before
         order by t.to_side desc, t.entry_id desc limit v_most)
        order by entry_id desc limit v_most
    ) e
    left join refill.spend_event s on e.kind = 'spend' and s.event_id = e.event_id and s.program_id = e.program_id
    order by e.entry_id desc;
end $$;

create or replace view refill.spend_outcome as
select s.event_id, coalesce(a.name, s.account) as account, s.amount, s.outcome::text as outcome, s.balance_after, s.shortfall,
       s.posted_at as at
from refill.spend_event s left join refill.account a on a.account_id = s.account_id;

create or replace view refill.charge_history as
select c.charge_id, a.name as account, c.reason, c.state::text as state, l.credits, l.amount_minor as amount, c.currency,
       c.fingerprint as card_fingerprint,
       (select count(*) from refill.attempt t where t.charge_id = c.charge_id and t.state <> 'released') as attempts,
       c.decline, c.opened_at, c.settled_at, i.invoice_number
from refill.charge c
join refill.charge_line l on l.charge_id = c.charge_id
join refill.account a on a.account_id = l.account_id
left join refill.invoice i on i.charge_id = c.charge_id;

create or replace view refill.decision as
select a.name as account, d.at, d.seen_at, d.projected, d.recharge_below, d.verdict::text as verdict, d.next_at, d.charge_id
from refill.evaluation d join refill.account a on a.account_id = d.account_id;

create or replace view refill.event as
select e.seq, e.at, e.type, coalesce(a.name, e.account) as account, e.data
from refill.event_log e left join refill.account a on a.account_id = e.account_id
where e.seq is not null;
