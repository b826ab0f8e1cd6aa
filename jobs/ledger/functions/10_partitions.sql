-- The partitions of refill.entry: one for each UTC month from `since` on and before `until`; the default one has neither.
create or replace view refill.entry_partition as
select c.relname::text as name,
       case when b.bound <> 'DEFAULT' then coalesce(substring(b.bound from 'FROM \(''([^'']+)''\)')::timestamptz, '-infinity') end as since,
       substring(b.bound from 'TO \(''([^'']+)''\)')::timestamptz as until
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
cross join lateral (select pg_get_expr(c.relpartbound, c.oid) as bound) b
where i.inhparent = 'refill.entry'::regclass;

-- The name of the partition of a month, given by its first moment.
create or replace function refill.entry_partition_name(p_month timestamptz) returns text
language sql stable parallel safe as $$
    select 'entry_' || to_char(p_month at time zone 'UTC', 'YYYY_MM')
$$;

-- A statement trigger fires for the table that the statement names: each partition must refuse changes of its own.
create or replace function refill.guard_entries(p_table text) returns void
language plpgsql as $$
begin
    execute format('create trigger immutable before update or delete or truncate on refill.%I'
                   ' for each statement execute function refill.refuse_change()', p_table);
end $$;

-- Makes a table a partition, with what the default partition holds of its time. Postgres refuses a partition while the
-- default one has rows for it, and those are immutable: the lock that the move needs anyway keeps everybody else out while
-- its trigger is off. Whoever reads all entries waits for that lock, so the caller sets a short lock_timeout; the default
-- partition is empty unless partitions were made too late. A month that has begun needs a lock on all entries: a posting
-- that has chosen the default partition already would be refused by it, once it no longer takes that month.
create or replace function refill.attach_entries(p_table text, p_since timestamptz, p_until timestamptz) returns bigint
language plpgsql as $$
declare
    v_moved bigint := 0;
begin
    if p_since <= clock_timestamp() then lock table refill.entry in access exclusive mode; end if;
    lock table refill.entry_default in access exclusive mode;
    if exists (select from refill.entry_default where at >= p_since and at < p_until) then
        alter table refill.entry_default disable trigger immutable;
        execute format('with moved as (delete from refill.entry_default where at >= $1 and at < $2 returning *)'
                       ' insert into refill.%I select * from moved', p_table) using p_since, p_until;
        get diagnostics v_moved = row_count;
        alter table refill.entry_default enable trigger immutable;
    end if;
    execute format('alter table refill.entry attach partition refill.%I for values from (%L) to (%L)', p_table, p_since, p_until);
    return v_moved;
end $$;

-- Makes what is missing of the partitions of the present month, of those of the next p_months_ahead, and of the months of
-- rows that lie in the default partition. Returns their names. For months to come it holds up no posting but one
-- that crosses a level, which reads entries. Whoever reads them all holds it up: the caller sets lock_timeout, and tries again.
create or replace function refill.ensure_entry_partitions(p_months_ahead int, p_now timestamptz default null) returns text[]
language plpgsql
set timezone = 'UTC'
as $$
declare
    v_month timestamptz;
    v_name text;
    v_made text[] := '{}';
begin
    lock table refill.entry in share update exclusive mode;  -- one caller after the other; no posting waits for this
    for v_name in select p.name from refill.entry_partition p where not exists (
        select from pg_trigger t where t.tgrelid = format('refill.%I', p.name)::regclass and t.tgname = 'immutable') loop
        perform refill.guard_entries(v_name);
    end loop;
    foreach v_month in array array(select refill.entry_months_missing(p_months_ahead, p_now)) loop
        v_name := refill.entry_partition_name(v_month);
        execute format('create table refill.%I (like refill.entry including defaults including constraints)', v_name);
        perform refill.guard_entries(v_name);
        perform refill.attach_entries(v_name, v_month, v_month + interval '1 month');
        v_made := v_made || v_name;
    end loop;
    return v_made;
end $$;

-- The first moments of the months that should have a partition and have none; an archived month shall have none.
create or replace function refill.entry_months_missing(p_months_ahead int, p_now timestamptz default null) returns setof timestamptz
language sql stable
set timezone = 'UTC'
as $$
    select m.month
    from (
        select n.month + make_interval(months => ahead) as month
        from (select date_trunc('month', coalesce(p_now, clock_timestamp())) as month) n, generate_series(0, p_months_ahead) ahead
        union
        select date_trunc('month', e.at) from refill.entry_default e where isfinite(e.at)
    ) m
    where not exists (select from refill.entry_partition p where m.month >= p.since and m.month < p.until)
      and not exists (select from refill.entry_archive a where a.restored_at is null and m.month >= a.since and m.month < a.until)
    order by m.month
$$;

select refill.ensure_entry_partitions(3);
