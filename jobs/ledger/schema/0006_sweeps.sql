-- What the sweeps read, and what a posting or an expiry of very many accounts need not pay for.

-- Due lots are booked in this order, page after page, each page beginning where the one before it ended.
drop index refill.lot_due;
create index lot_due on refill.lot (expires_at, lot_id) where open and expires_at < 'infinity';

-- Accounts whose credit dies when they are silent, and when to look at each: never later than it can die. Each spend moves that
-- moment away, and an index that followed it would make every spend dearer; the sweep moves `look_at` up when it comes by.
create table refill.silence (
    account_id bigint primary key,
    look_at    timestamptz not null
);
create index silence_due on refill.silence (look_at, account_id);
insert into refill.silence select account_id, idle_expires_at from refill.account
where balance > 0 and idle_expires_at < 'infinity';

-- These rows are written by the functions that hold their account's lock: `refill audit` proves what the keys would say, as it
-- does for entries. Each key cost a look at the account for every row, and one more check for each change of a balance.
alter table refill.alert drop constraint alert_account_id_fkey;
alter table refill.watch drop constraint watch_account_id_fkey;
alter table refill.message drop constraint message_account_id_fkey;
alter table refill.event_log drop constraint event_log_account_id_fkey;

-- An event has no number when it is written: it need not be in the index of numbers until it has one.
alter table refill.event_log drop constraint event_log_seq_key;
create unique index event_numbered on refill.event_log (seq) where seq is not null;

-- An account before and after a change of its balance.
create type refill.balance_change as (before refill.account, after refill.account);

-- refill.announce says what it said, of many accounts at once.
drop function if exists refill.announce_band(refill.account, refill.account);
