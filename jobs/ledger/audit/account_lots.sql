select 'account ' || a.name as subject, coalesce(l.remaining, 0) as expected, a.balance as found
from refill.account a
left join (select account_id, sum(remaining) as remaining from refill.lot group by account_id) l using (account_id)
where a.balance <> coalesce(l.remaining, 0)
