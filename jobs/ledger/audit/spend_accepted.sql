-- Entries of archived months are proved by spend_carried. Draws of one event run downwards, so that its lowest balance is that of its last entry.
select 'spend event ' || s.event_id as subject,
       format('%s from account %s, leaving %s', s.amount, s.account_id, s.balance_after) as expected,
       coalesce(e.amount || ' from account ' || e.accounts || ', leaving ' || e.balance_after, 'no entry') as found
from refill.spend_event s
left join (
    select event_id, program_id, sum(amount) as amount, min(from_balance) as balance_after,
           min(from_side) as account_id,
           case when min(from_side) = max(from_side) then min(from_side)::text else min(from_side) || ' to ' || max(from_side) end as accounts,
           min(from_side) = max(from_side) as is_one_account
    from refill.entry where kind = 'spend'
    group by event_id, program_id
) e on e.event_id = s.event_id and e.program_id = s.program_id
where s.outcome = 'accepted' and not s.posted_at <@ (select refill.archived_time())
  and (e.amount is distinct from s.amount or e.balance_after is distinct from s.balance_after
       or e.account_id is distinct from s.account_id or not e.is_one_account)
