select 'invoice ' || i.invoice_number as subject, 'a settled charge' as expected,
       coalesce('charge ' || c.charge_id || ' is ' || c.state, 'no charge ' || i.charge_id) as found
from refill.invoice i
left join refill.charge c using (charge_id)
where c.state is distinct from 'succeeded'
