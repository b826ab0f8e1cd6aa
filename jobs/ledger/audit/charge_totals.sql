select 'charge ' || c.charge_id as subject,
       format('net %s, tax %s, total %s', coalesce(l.net, 0), coalesce(l.tax, 0), coalesce(l.amount, 0)) as expected,
       format('net %s, tax %s, total %s', c.net_minor, c.tax_minor, c.amount_minor) as found
from refill.charge c
left join (
    select charge_id, sum(net_minor) as net, sum(tax_minor) as tax, sum(amount_minor) as amount
    from refill.charge_line group by charge_id
) l using (charge_id)
where (c.net_minor, c.tax_minor, c.amount_minor) is distinct from (l.net, l.tax, l.amount)
