select format('spend event %s (%s)', s.event_id, s.outcome) as subject, 'no entry' as expected,
       format('%s in entry %s', e.amount, e.entry_id) as found
from refill.spend_event s
join refill.entry e on e.event_id = s.event_id and e.program_id = s.program_id and e.kind = 'spend'
where s.outcome <> 'accepted'
