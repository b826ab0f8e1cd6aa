select format('lot %s of account %s', l.lot_id, a.name) as subject, 'expired by ' || least(l.expires_at, a.idle_expires_at) as expected,
       l.remaining || ' left, unbooked' as found
from refill.lot l
join refill.account a using (account_id)
where l.open and least(l.expires_at, a.idle_expires_at) < current_setting('refill.now')::timestamptz - interval '1 day'
