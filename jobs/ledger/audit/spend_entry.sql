select 'entry ' || e.entry_id as subject, 'spend event ' || coalesce(e.event_id, '(none)') as expected, 'no such event' as found
from refill.entry e
left join refill.spend_event s on s.event_id = e.event_id and s.program_id = e.program_id
where e.kind = 'spend' and s.event_id is null
