-- Everything that ever moved credit: entries of the months that lie here, and the sums of those that were archived, which have
-- no entry_id. For what is the same of each entry and of their sum; the order of entries is not.
create or replace view refill.movement as
select e.entry_id, null::bigint as entry_archive_id, e.kind, e.program_id, e.from_side, e.to_side, e.lot_id, e.charge_id,
       1::bigint as entries, e.amount, e.at as first_at, e.at as last_at
from refill.entry e
union all
select null, c.entry_archive_id, c.kind, c.program_id, c.from_side, c.to_side, c.lot_id, c.charge_id, c.entries, c.amount,
       c.first_at, c.last_at
from refill.entry_carried c;

-- When the entries were made that lie in archives.
create or replace function refill.archived_time() returns tstzmultirange
language sql stable parallel safe as $$
    select coalesce(range_agg(tstzrange(since, until)), '{}') from refill.entry_archive where restored_at is null
$$;

create or replace trigger immutable before update or delete or truncate on refill.entry_carried
    for each statement execute function refill.refuse_change();
create or replace trigger immutable before update or delete or truncate on refill.entry_carried_account
    for each statement execute function refill.refuse_change();

-- Adds up what a partition holds, for its archive.
create or replace function refill.carry_entries(p_entry_archive_id bigint, p_table text) returns void
language plpgsql as $$
begin
    execute format('
        insert into refill.entry_carried (entry_archive_id, kind, program_id, from_side, to_side, lot_id, charge_id, entries,
                                          amount, first_at, last_at)
        select $1, kind, program_id, from_side, to_side, lot_id, charge_id, count(*), sum(amount), min(at), max(at)
        from refill.%I group by kind, program_id, from_side, to_side, lot_id, charge_id', p_table) using p_entry_archive_id;
    execute format('
        insert into refill.entry_carried_account (entry_archive_id, account_id, first_entry_id, last_entry_id, opening, closing,
                                                  entries, spend_events)
        select $1, side, min(entry_id), max(entry_id), (array_agg(balance - amount order by entry_id))[1],
               (array_agg(balance order by entry_id desc))[1], count(*), count(distinct event_id) filter (where kind = ''spend'')
        from (select to_side, entry_id, amount, to_balance, kind, event_id from refill.%1$I where to_side > 0
              union all
              select from_side, entry_id, -amount, from_balance, kind, event_id from refill.%1$I where from_side > 0
             ) m(side, entry_id, amount, balance, kind, event_id)
        group by side', p_table) using p_entry_archive_id;
end $$;

-- Takes a partition out for good: it is in an archive. Postings and readers wait from the lock to the commit, so the caller
-- sets a short lock_timeout, tries again, and commits at once.
create or replace function refill.drop_entries(p_table text) returns void
language plpgsql as $$
begin
    lock table refill.entry in access exclusive mode;
    execute format('alter table refill.entry detach partition refill.%I', p_table);
    execute format('drop table refill.%I', p_table);
end $$;

-- A table like a partition, for the entries of an archive to be loaded into.
create or replace function refill.create_entries(p_table text) returns void
language plpgsql as $$
begin
    execute format('create table refill.%I (like refill.entry including defaults including constraints)', p_table);
end $$;

-- What can be done before it is attached, while nobody waits: indexes, and the proof that all is of its time.
create or replace function refill.prepare_entries(p_table text, p_since timestamptz, p_until timestamptz) returns void
language plpgsql as $$
begin
    execute format('create index %I on refill.%I (from_side, entry_id) where from_side > 0', p_table || '_from_side_entry_id_idx', p_table);
    execute format('create index %I on refill.%I (to_side, entry_id) where to_side > 0', p_table || '_to_side_entry_id_idx', p_table);
    execute format('alter table refill.%I add constraint entry_span check (at >= %L and at < %L)', p_table, p_since, p_until);
    perform refill.guard_entries(p_table);
end $$;

-- Forgets the sums of an archive whose entries are here again. They are immutable to everybody else, whom the lock keeps out.
create or replace function refill.drop_carried(p_entry_archive_id bigint, p_by text) returns void
language plpgsql as $$
begin
    alter table refill.entry_carried disable trigger immutable;
    alter table refill.entry_carried_account disable trigger immutable;
    delete from refill.entry_carried where entry_archive_id = p_entry_archive_id;
    delete from refill.entry_carried_account where entry_archive_id = p_entry_archive_id;
    alter table refill.entry_carried enable trigger immutable;
    alter table refill.entry_carried_account enable trigger immutable;
    update refill.entry_archive set restored_at = clock_timestamp(), restored_by = p_by where entry_archive_id = p_entry_archive_id;
end $$;
