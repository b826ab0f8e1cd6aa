-- What a single value may be becomes the business of its type. Postgres reads every CHECK and every generated column of a table
-- anew, from its stored text, for each statement that writes to it: for one spend event that was a third of all work. A domain
-- is read once per session, and only where a value of it is assigned. CHECKs remain where a row must agree with itself.
--
-- Nothing is rewritten but refill.account: the columns take the domains while these allow anything, and are looked through
-- when the rules are added.

drop view if exists refill.balance, refill.entry_history, refill.spend_outcome, refill.charge_history, refill.decision, refill.event;
drop trigger if exists announce on refill.account;
drop trigger if exists announce_opening on refill.account;
drop function if exists refill.post_spend(text[], text[], bigint[], timestamptz[], text[], text[], text[], timestamptz);
drop aggregate if exists refill.left_after(bigint, bigint);
drop function if exists refill.draw_whole(bigint, bigint, bigint);

create domain refill.credits as bigint;
create domain refill.credits_left as bigint;
create domain refill.minor_units as bigint;
create domain refill.identifier as text collate "C";

-- 0 depleted, 1 low, 2 near (at the alert level but not clearly above it), 3 clear (alert level x 1.1 or more): the number of
-- levels that the balance reaches. A trigger sets the levels where the alert level is set.
alter table refill.account
    drop constraint account_name_check, drop constraint account_balance_check,
    drop constraint account_alert_below_check, drop constraint account_recharge_below_check,
    drop column band, drop column below_trigger;
alter table refill.account
    alter column name type refill.identifier, alter column balance type refill.credits_left,
    alter column alert_below type refill.credits, alter column recharge_below type refill.credits,
    add column band_levels bigint[] not null default '{1,1,1}';
update refill.account
set band_levels = array[1, alert_below, ceil(least(alert_below::numeric * 1.1, 9223372036854775807))]::bigint[]
where alert_below is not null;
alter table refill.account
    add column band smallint not null generated always as (width_bucket(balance, band_levels)) stored,
    add column below_trigger boolean not null generated always as ((balance < recharge_below) is true) stored;

alter table refill.lot
    drop constraint lot_granted_check, drop constraint lot_price_minor_check, drop constraint lot_check1, drop constraint lot_check2,
    alter column granted type refill.credits, alter column price_minor type refill.minor_units;

alter table refill.entry
    drop constraint entry_amount_check, drop constraint entry_from_balance_check, drop constraint entry_to_balance_check,
    alter column amount type refill.credits, alter column from_balance type refill.credits_left,
    alter column to_balance type refill.credits_left;

alter table refill.spend_event
    drop constraint spend_event_event_id_check, drop constraint spend_event_amount_check,
    alter column event_id type refill.identifier, alter column amount type refill.credits;

alter domain refill.credits add check (value > 0);
alter domain refill.credits_left add check (value >= 0);
alter domain refill.minor_units add check (value >= 0);
alter domain refill.identifier add check (length(value) between 1 and 64);
