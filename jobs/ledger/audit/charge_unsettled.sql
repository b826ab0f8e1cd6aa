select coalesce('entry ' || e.entry_id, 'entries carried from archive ' || e.entry_archive_id) as subject, 'a settled charge with a line for account ' || e.to_side as expected,
       case when c.charge_id is null then 'no charge ' || coalesce(e.charge_id::text, 'named')
            when l.charge_id is null then format('charge %s has no such line', e.charge_id)
            else format('charge %s is %s', c.charge_id, c.state) end as found
from refill.movement e
left join refill.charge c using (charge_id)
left join refill.charge_line l on l.charge_id = e.charge_id and l.account_id = e.to_side
where e.kind in ('purchase', 'recharge') and (l.charge_id is null or c.state is distinct from 'succeeded')
