-- The sequence of entry ids is the order of posting: they are given out under the account's lock.
select format('entry %s of %s', entry_id, coalesce('account ' || a.name, 'side ' || side)) as subject,
       greatest(balance_before + amount, 0) as expected, balance_after as found
from (
    select entry_id, side, amount, balance_after,
           lag(balance_after, 1, 0::bigint) over (partition by side order by entry_id) as balance_before
    from (select entry_id, to_side, amount, to_balance from refill.entry where to_side > 0
          union all
          select entry_id, from_side, -amount, from_balance from refill.entry where from_side > 0
         ) m(entry_id, side, amount, balance_after)
) c
left join refill.account a on a.account_id = c.side
where balance_after is distinct from balance_before + amount or balance_after < 0
