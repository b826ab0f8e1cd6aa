-- What was drawn less what was revived, by the entries that moved this lot on its own account.
select 'lot ' || l.lot_id as subject, l.granted - coalesce(e.drawn, 0) as expected, l.remaining as found
from refill.lot l
left join (
    select lot_id, side, sum(amount) as drawn
    from (select lot_id, from_side, amount from refill.movement where from_side > 0
          union all
          select lot_id, to_side, -amount from refill.movement
          where to_side > 0 and kind in ('reinstatement', 'refund_release', 'dispute_release')) m(lot_id, side, amount)
    group by lot_id, side
) e on e.lot_id = l.lot_id and e.side = l.account_id
where l.remaining <> l.granted - coalesce(e.drawn, 0)
