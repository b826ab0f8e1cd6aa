select format('charge %s, line %s', l.charge_id, l.line) as subject,
       format('1 grant of %s to account %s for %s as lot %s', l.credits, l.account_id, l.amount_minor, l.lot_id) as expected,
       format('%s grants of %s to account %s for %s as lot %s', coalesce(sum(e.entries), 0), coalesce(sum(e.amount), 0),
              coalesce(min(t.account_id)::text, '(none)'), coalesce(min(t.price_minor)::text, '(none)'),
              coalesce(min(t.lot_id)::text, '(none)')) as found
from refill.charge_line l
join refill.charge c using (charge_id)
left join refill.movement e on e.charge_id = l.charge_id and e.to_side = l.account_id and e.kind in ('purchase', 'recharge')
left join refill.lot t on t.lot_id = e.lot_id
where c.state = 'succeeded'
group by l.charge_id, l.line, l.credits, l.account_id, l.amount_minor, l.lot_id
having coalesce(sum(e.entries), 0) <> 1 or sum(e.amount) <> l.credits or min(e.lot_id) is distinct from l.lot_id
    or min(t.account_id) is distinct from l.account_id or min(t.price_minor) is distinct from l.amount_minor
