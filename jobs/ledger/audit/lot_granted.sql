select 'lot ' || l.lot_id as subject, l.granted as expected, coalesce(e.credits, 0) as found
from refill.lot l
left join (
    select lot_id, to_side, sum(amount) as credits
    from refill.movement
    where to_side > 0 and kind not in ('reinstatement', 'refund_release', 'dispute_release')
    group by lot_id, to_side
) e on e.lot_id = l.lot_id and e.to_side = l.account_id
where l.granted <> coalesce(e.credits, 0)
