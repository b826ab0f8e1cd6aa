-- The two sides of an entry cannot differ; what can differ is what the accounts say they hold.
select 'program ' || p.name as subject, 0 as expected, coalesce(a.held, 0) + coalesce(e.net, 0) as found
from refill.program p
left join (select program_id, sum(balance) as held from refill.account group by program_id) a using (program_id)
left join (
    select program_id, sum(case when to_side < 0 then amount else 0 end - case when from_side < 0 then amount else 0 end) as net
    from refill.movement group by program_id
) e using (program_id)
where coalesce(a.held, 0) + coalesce(e.net, 0) <> 0
