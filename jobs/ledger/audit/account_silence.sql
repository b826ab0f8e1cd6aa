select 'account ' || a.name as subject, 'looked at by ' || a.idle_expires_at as expected, coalesce('at ' || s.look_at, 'never') as found
from refill.account a
left join refill.silence s using (account_id)
where a.balance > 0 and a.idle_expires_at < 'infinity' and (s.look_at is null or s.look_at > a.idle_expires_at)
