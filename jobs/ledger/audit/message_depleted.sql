select format('account %s at %s', a.name, at) as subject, coalesce(e.causes, 0) || ' messages' as expected,
       coalesce(m.messages, 0) || ' messages' as found
from (select account_id, at, count(*) as causes from refill.event_log where type = 'balance.depleted' group by account_id, at) e
full join (
    select account_id, created_at as at, count(*) as messages from refill.message where kind = 'depleted' group by account_id, created_at
) m using (account_id, at)
left join refill.account a using (account_id)
where e.causes is distinct from m.messages
