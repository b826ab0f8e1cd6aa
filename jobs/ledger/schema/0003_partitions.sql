-- Entries grow for ever: from here on they lie in one partition for each UTC month, so that the indexes that are written to
-- stay small and an old month can be taken out as a whole (see ../functions/10_partitions.sql, which makes the partitions).
--
-- refill.spend_event stays one table. An event id must be unique for ever, and Postgres can only keep an index unique within a
-- partition, or with the partition's key in it: two postings of one id in two months would both be accepted. It is the home of
-- the ids: a month whose entries are archived keeps its events, and a replay of one of them gets its first outcome again.
--
-- Nothing is copied: what a ledger holds already becomes the first partition, whatever months it spans.

-- Before PostgreSQL 17 a partitioned table has no identity columns. The ids go on where they were, without a cache: per
-- account their order is the order of posting.
create sequence refill.entry_id_seq;
select setval('refill.entry_id_seq', last_value, is_called) from refill.entry_entry_id_seq;

alter table refill.entry alter column entry_id drop identity;
-- An index over all partitions can only be unique together with `at`: `refill audit` proves that ids are not used twice.
alter table refill.entry drop constraint entry_pkey;
alter table refill.entry rename to entry_default;
alter index refill.entry_from rename to entry_default_from_side_entry_id_idx;
alter index refill.entry_to rename to entry_default_to_side_entry_id_idx;

create table refill.entry (like refill.entry_default including constraints) partition by range (at);
alter table refill.entry alter column entry_id set default nextval('refill.entry_id_seq');
alter sequence refill.entry_id_seq owned by refill.entry.entry_id;
create index entry_from on refill.entry (from_side, entry_id) where from_side > 0;
create index entry_to on refill.entry (to_side, entry_id) where to_side > 0;

-- The default partition catches what no other takes, so that a posting is never refused for want of one. It should be empty.
do $$
declare
    v_newest constant timestamptz := (select max(at) from refill.entry_default);
    v_month constant timestamp := date_trunc('month', v_newest at time zone 'UTC');
    v_name constant text := 'entry_' || to_char(v_month, 'YYYY_MM');
begin
    if v_newest is null then
        alter table refill.entry_default alter column entry_id set default nextval('refill.entry_id_seq');
        alter table refill.entry attach partition refill.entry_default default;
    else
        execute format('alter table refill.entry_default rename to %I', v_name);
        execute format('alter index refill.entry_default_from_side_entry_id_idx rename to %I', v_name || '_from_side_entry_id_idx');
        execute format('alter index refill.entry_default_to_side_entry_id_idx rename to %I', v_name || '_to_side_entry_id_idx');
        execute format('alter table refill.%I alter column entry_id set default nextval(''refill.entry_id_seq'')', v_name);
        execute format('alter table refill.entry attach partition refill.%I for values from (minvalue) to (%L)',
                       v_name, (v_month + interval '1 month') at time zone 'UTC');
        create table refill.entry_default partition of refill.entry default;
    end if;
end $$;
