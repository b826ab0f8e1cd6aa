select 'charge ' || c.charge_id as subject,
       format('1 invoice: net %s, tax %s, total %s %s', c.net_minor, c.tax_minor, c.amount_minor, c.currency) as expected,
       case when count(i.charge_id) = 0 then 'none'
            else format('%s: %s', count(i.charge_id), string_agg(
                format('%s net %s, tax %s, total %s %s', i.invoice_number, i.net_minor, i.tax_minor, i.amount_minor, i.currency), '; ')) end
       as found
from refill.charge c
left join refill.invoice i using (charge_id)
where c.state = 'succeeded'
group by c.charge_id
having count(i.charge_id) <> 1
    or min(i.net_minor) <> c.net_minor or min(i.tax_minor) <> c.tax_minor or min(i.amount_minor) <> c.amount_minor
    or min(i.currency) <> c.currency or min(i.program_id) <> c.program_id or min(i.organisation_id) <> c.organisation_id
