-- The sequence of entry ids is the order of posting: they are given out under the account's lock. An archived month is one link
-- of the chain, from where it took the account up to where it left it, by as much as its carried entries moved.
select format('%s of %s', coalesce('entry ' || entry_id, 'archive ' || entry_archive_id), coalesce('account ' || a.name, 'side ' || side)) as subject,
       greatest(balance_before + amount, 0) as expected, balance_after as found
from (
    select entry_id, entry_archive_id, side, amount, balance_after,
           lag(balance_after, 1, 0::bigint) over (partition by side order by place) as balance_before
    from (select entry_id, entry_id, null::bigint, to_side, amount, to_balance from refill.entry where to_side > 0
          union all
          select entry_id, entry_id, null, from_side, -amount, from_balance from refill.entry where from_side > 0
          union all
          select l.last_entry_id, null, l.entry_archive_id, l.account_id, coalesce(c.amount, 0), l.closing
          from refill.entry_carried_account l
          left join (
              select entry_archive_id, side, sum(amount)::bigint as amount
              from (select entry_archive_id, to_side, amount from refill.entry_carried where to_side > 0
                    union all
                    select entry_archive_id, from_side, -amount from refill.entry_carried where from_side > 0
                   ) m(entry_archive_id, side, amount)
              group by entry_archive_id, side
          ) c on c.entry_archive_id = l.entry_archive_id and c.side = l.account_id
         ) m(place, entry_id, entry_archive_id, side, amount, balance_after)
) c
left join refill.account a on a.account_id = c.side
where balance_after is distinct from balance_before + amount or balance_after < 0
