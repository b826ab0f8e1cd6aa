-- Whatever ends a charge puts its accounts before the sweep again.
select 'account ' || a.name as subject, 'a row in refill.watch' as expected,
       format('none, at balance %s below %s', a.balance, a.recharge_below) as found
from refill.account a
where a.below_trigger and a.closed_at is null
  and not exists (select from refill.watch w where w.account_id = a.account_id)
  and not exists (select from refill.charge_line l where l.account_id = a.account_id and l.open)
