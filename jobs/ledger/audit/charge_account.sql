select format('charge %s, line %s', c.charge_id, l.line) as subject,
       format('an account of organisation %s in program %s, in %s', c.organisation_id, c.program_id, p.currency) as expected,
       format('account %s of organisation %s in program %s, in %s', a.name, a.organisation_id, a.program_id, c.currency) as found
from refill.charge_line l
join refill.charge c using (charge_id)
join refill.program p on p.program_id = c.program_id
join refill.account a on a.account_id = l.account_id
where a.program_id <> c.program_id or a.organisation_id <> c.organisation_id or p.currency <> c.currency
