-- Both ways: carried entries without an archive, an archive without what it carried, and a month that is here and there.
select 'archive ' || coalesce(a.entry_archive_id, c.entry_archive_id) || coalesce(' of ' || a.month, '') as subject,
       case when a.entry_archive_id is null then 'an archive that is not restored'
            else format('%s entries of %s credits, and no partition', a.rows, a.credits) end as expected,
       format('%s entries of %s credits%s', coalesce(c.entries, 0), coalesce(c.credits, 0), ', and partition ' || p.name) as found
from (select * from refill.entry_archive where restored_at is null) a
full join (
    select entry_archive_id, sum(entries) as entries, sum(amount) as credits from refill.entry_carried group by entry_archive_id
) c using (entry_archive_id)
left join refill.entry_partition p on p.since = a.since and p.until = a.until
where a.entry_archive_id is null or p.name is not null
   or (a.rows, a.credits) is distinct from (coalesce(c.entries, 0), coalesce(c.credits, 0))
union all
select format('account %s in archive %s', coalesce(l.account_id, c.side), coalesce(l.entry_archive_id, c.entry_archive_id)),
       format('%s entries, from %s to %s', coalesce(c.entries, 0), l.opening, l.opening + coalesce(c.amount, 0)),
       format('%s entries, to %s', l.entries, l.closing)
from refill.entry_carried_account l
full join (
    select entry_archive_id, side, sum(entries) as entries, sum(amount) as amount
    from (select entry_archive_id, to_side, entries, amount from refill.entry_carried where to_side > 0
          union all
          select entry_archive_id, from_side, entries, -amount from refill.entry_carried where from_side > 0
         ) m(entry_archive_id, side, entries, amount)
    group by entry_archive_id, side
) c on c.entry_archive_id = l.entry_archive_id and c.side = l.account_id
where (l.entries, l.closing) is distinct from (c.entries, l.opening + c.amount)
