-- A slice that was transferred keeps its charge but is no grant of its own.
select 'lot ' || l.lot_id as subject, 'exactly 1 line of a settled charge' as expected,
       format('%s, charge %s', coalesce(s.lines, 0), coalesce(l.charge_id::text, 'none')) as found
from refill.lot l
left join (
    select lot_id, c.charge_id, count(*) as lines
    from refill.charge_line join refill.charge c using (charge_id)
    where c.state = 'succeeded'
    group by lot_id, c.charge_id
) s on s.lot_id = l.lot_id and s.charge_id = l.charge_id
where l.class = 'paid' and l.origin_lot_id is null and coalesce(s.lines, 0) <> 1
