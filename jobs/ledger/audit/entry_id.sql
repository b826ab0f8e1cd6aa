select 'entry ' || entry_id as subject, 'one entry' as expected, count(*) || ' entries' as found
from refill.entry
group by entry_id
having count(*) > 1
