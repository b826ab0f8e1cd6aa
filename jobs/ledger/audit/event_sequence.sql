select 'event ' || seq as subject, 'seq ' || previous + 1 as expected, format('seq %s after %s', seq, previous) as found
from (select seq, lag(seq, 1, 0::bigint) over (order by seq) as previous from refill.event_log where seq is not null) e
where seq <> previous + 1
