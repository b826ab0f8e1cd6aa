select 'account ' || a.name as subject, coalesce(e.net, 0) as expected, a.balance as found
from refill.account a
left join (
    select side, sum(amount) as net
    from (select to_side, amount from refill.movement where to_side > 0
          union all
          select from_side, -amount from refill.movement where from_side > 0) m(side, amount)
    group by side
) e on e.side = a.account_id
where a.balance <> coalesce(e.net, 0)
