select format('invoices of program %s in %s', coalesce(p.name, n.program_id::text), n.year) as subject,
       'number ' || n.previous + 1 as expected, n.found
from (
    select program_id, year, number, lag(number, 1, 0) over (partition by program_id, year order by number) as previous,
           format('%s after %s', invoice_number, lag(number, 1, 0) over (partition by program_id, year order by number)) as found
    from refill.invoice
    union all
    -- The counter stands where the next number follows the last invoice.
    select program_id, year, c.last + 1, coalesce(max(i.number), 0), format('a counter that stands at %s', c.last)
    from refill.invoice_counter c full join refill.invoice i using (program_id, year)
    group by program_id, year, c.last
) n
left join refill.program p on p.program_id = n.program_id
where n.number is distinct from n.previous + 1
