-- What sums can prove of spends whose entries are archived: per account, that the accepted events of that time came to as many
-- and as much as was carried. That each event had its own entries was proved before they were archived, and is proved again
-- when they are restored.
select 'account ' || coalesce(a.name, coalesce(s.account_id, c.account_id)::text) as subject,
       format('%s archived spends of %s', coalesce(s.events, 0), coalesce(s.amount, 0)) as expected,
       format('%s of %s', coalesce(c.events, 0), coalesce(c.amount, 0)) as found
from (
    select account_id, count(*) as events, sum(amount) as amount
    from refill.spend_event
    where (select refill.archived_time() <> '{}') and outcome = 'accepted' and posted_at <@ (select refill.archived_time())
    group by account_id
) s
full join (
    select account_id, sum(spend_events) as events, sum(amount) as amount
    from refill.entry_carried_account l
    left join (
        select entry_archive_id, from_side as account_id, sum(amount) as amount
        from refill.entry_carried where kind = 'spend' group by entry_archive_id, from_side
    ) m using (entry_archive_id, account_id)
    group by account_id
) c using (account_id)
left join refill.account a on a.account_id = coalesce(s.account_id, c.account_id)
where coalesce(s.events, 0) <> coalesce(c.events, 0) or coalesce(s.amount, 0) <> coalesce(c.amount, 0)
