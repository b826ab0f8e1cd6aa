-- What a foreign key would say, had not each row of a large expiry to pay for it.
select r.subject || ' of account ' || r.account_id as subject, 'an account' as expected, 'none' as found
from (select 'alert' as subject, account_id from refill.alert
      union all select 'watch', account_id from refill.watch
      union all select 'silence', account_id from refill.silence
      union all select 'message ' || message_id, account_id from refill.message
      union all select 'event ' || event_log_id, account_id from refill.event_log where account_id is not null) r
left join refill.account a using (account_id)
where a.account_id is null
