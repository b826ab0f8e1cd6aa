select 'account ' || a.name as subject, 'at most ' || l.expires_at as expected, a.expires_next as found
from refill.account a
join (select account_id, min(expires_at) as expires_at from refill.lot where open group by account_id) l using (account_id)
where a.expires_next > l.expires_at
