-- A fall within a day after a message is an event without one.
with messages as (
    select account_id, created_at as at, lag(created_at) over (partition by account_id order by created_at) as previous
    from refill.message where kind = 'low'
), falls as (
    select distinct account_id, at from refill.event_log where type = 'balance.low'
), faults as (
    select account_id, at, 'a balance.low event' as expected, 'a message without one' as found
    from messages m where not exists (select from falls f where f.account_id = m.account_id and f.at = m.at)
    union all
    select account_id, at, 'no message within a day of another', 'one at ' || previous
    from messages where previous > at - interval '1 day'
    union all
    select account_id, at, 'a message then or in the day before', 'none'
    from falls f where not exists (select from messages m where m.account_id = f.account_id
                                   and m.at <= f.at and m.at > f.at - interval '1 day')
)
select format('account %s at %s', a.name, at) as subject, expected, found
from faults join refill.account a using (account_id)
