select format('charge %s, line %s', c.charge_id, l.line) as subject,
       case when s.is_open then 'open' else 'closed' end || ', as the charge is ' || c.state as expected,
       case when l.open then 'open' else 'closed' end as found
from refill.charge c
cross join lateral (select c.state not in ('needs_customer', 'succeeded', 'declined', 'cancelled') as is_open) s
join refill.charge_line l using (charge_id)
where l.open <> s.is_open
