select 'spend event ' || s.event_id as subject, 'an account of program ' || s.program_id as expected,
       coalesce('account ' || a.name || ' of program ' || a.program_id, 'no account ' || s.account_id) as found
from refill.spend_event s
left join refill.account a on a.account_id = s.account_id
where s.account_id is not null and a.program_id is distinct from s.program_id
