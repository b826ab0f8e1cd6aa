select 'card ' || fingerprint as subject, 'at most 1 attempt in flight' as expected,
       format('%s, of charges %s', count(*), string_agg(charge_id::text, ', ' order by charge_id)) as found
from refill.attempt
where state in ('reserved', 'sent')
group by fingerprint
having count(*) > 1
