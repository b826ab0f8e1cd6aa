select format('charge %s to account %s', c.charge_id, a.name) as subject, '1 message' as expected,
       count(m.message_id) || ' messages' as found
from refill.charge c
join refill.charge_line l using (charge_id)
join refill.account a on a.account_id = l.account_id
left join refill.message m on m.account_id = l.account_id and m.kind = 'recharge_succeeded'
                          and m.data ->> 'charge_id' = c.charge_id::text
where c.state = 'succeeded' and c.reason = 'recharge'
group by c.charge_id, a.name
having count(m.message_id) <> 1
