-- Messages that were sent are many and never asked for by state; the others are: which are due, and how many of each there are.
drop index refill.message_pending;
create index message_unsent on refill.message (state, next_at) where state <> 'sent';

-- What was decided last about an account that is below its trigger, so that status need not look up each evaluation.
alter table refill.watch add column verdict refill.verdict;
update refill.watch w set verdict = (
    select e.verdict from refill.evaluation e where e.account_id = w.account_id order by e.evaluation_id desc limit 1);
