select coalesce('entry ' || e.entry_id, 'entries carried from archive ' || e.entry_archive_id) as subject, format('a lot of side %s or %s', e.from_side, e.to_side) as expected,
       coalesce('lot ' || l.lot_id || ' of account ' || l.account_id, 'no lot ' || e.lot_id) as found
from refill.movement e
left join refill.lot l on l.lot_id = e.lot_id
where l.account_id is null or l.account_id not in (e.from_side, e.to_side)
