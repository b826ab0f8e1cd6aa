-- Each statement is refused by the constraint that stands above it, on the rows of test_constraints.py.

-- program_name_check
insert into refill.program (name, decimals, currency, time_zone, expiry_kind, terms)
    values ('A b', 2, 'USD', 'UTC', 'none', '{}');

-- program_name_key
insert into refill.program (name, decimals, currency, time_zone, expiry_kind, terms)
    values ('mail', 2, 'USD', 'UTC', 'none', '{}');

-- program_decimals_check
update refill.program set decimals = 10;

-- program_currency_check
update refill.program set currency = 'usd';

-- program_expiry_kind_check
update refill.program set expiry_kind = 'monthly', expiry_days = 5;

-- program_expiry_days_check
update refill.program set expiry_kind = 'fixed', expiry_days = 0;

-- program_check
update refill.program set expiry_days = 5;

-- program_check
update refill.program set expiry_kind = 'fixed';

-- organisation_name_check
insert into refill.organisation (name) values ('');

-- organisation_name_key
insert into refill.organisation (name) values ('acme');

-- organisation_program_sharing_check
update refill.organisation_program set sharing = 'both';

-- identifier_check
update refill.account set name = repeat('x', 65) where name = 'a';

-- account_name_key
update refill.account set name = 'b' where name = 'a';

-- credits_left_check
update refill.account set balance = -1 where name = 'a';

-- credits_check
update refill.account set alert_below = 0 where name = 'a';

-- credits_check
update refill.account set recharge_below = 0 where name = 'a';

-- account_one_system
update refill.account set is_system = true;

-- account_organisation_id_program_id_fkey
update refill.account set program_id = 99 where name = 'a';

-- credits_check
update refill.lot set granted = 0, remaining = 0;

-- lot_check
update refill.lot set remaining = granted + 1;

-- lot_check
update refill.lot set remaining = -1;

-- lot_expires_after_it_begins
update refill.lot set expires_at = effective_at;

-- lot_paid_has_charge
update refill.lot set class = 'promotional';

-- minor_units_check
update refill.lot set price_minor = -1;

-- lot_account_id_fkey
update refill.lot set account_id = 99;

-- lot_of_charge
insert into refill.lot (account_id, class, granted, remaining, currency, effective_at, charge_id)
    values (1, 'paid', 1, 1, 'USD', now(), 1);

-- spend_event_pkey
insert into refill.spend_event (event_id, program_id, account_id, amount, outcome, posted_at)
    values ('e1', 1, 1, 1, 'accepted', now());

-- identifier_check
insert into refill.spend_event (event_id, program_id, account_id, amount, outcome, posted_at)
    values ('', 1, 1, 1, 'accepted', now());

-- credits_check
insert into refill.spend_event (event_id, program_id, account_id, amount, outcome, posted_at)
    values ('e9', 1, 1, 0, 'accepted', now());

-- spend_event_outcome_check
insert into refill.spend_event (event_id, program_id, account_id, amount, outcome, posted_at)
    values ('e9', 1, 1, 1, 'conflict', now());

-- spend_event_check
insert into refill.spend_event (event_id, program_id, account, amount, outcome, posted_at)
    values ('e9', 1, 'x', 1, 'unknown_account', now());

-- spend_event_check1
insert into refill.spend_event (event_id, program_id, amount, outcome, posted_at)
    values ('e9', 0, 1, 'unknown_account', now());

-- spend_event_check2
insert into refill.spend_event (event_id, program_id, account_id, amount, outcome, shortfall, posted_at)
    values ('e9', 1, 1, 1, 'insufficient_credit', 0, now());

-- policy_check
insert into refill.policy (account_id, amount, target) values (1, 5, 5);

-- policy_cap_month_check
insert into refill.policy (account_id, cap_month) values (1, 0);

-- card_in_use
insert into refill.card (account_id, payment_method, customer, fingerprint, brand, last4, exp_month, exp_year, added_by)
    select 1, 'pm' || n, 'c', 'f', 'visa', '4242', 1, 2030, 'me' from generate_series(1, 2) n;

-- card_state_stop_check
insert into refill.card_state (fingerprint, stop, stop_reason, stopped_at) values ('f', 'maybe', 'x', now());

-- card_state_check
insert into refill.card_state (fingerprint, stop, stop_reason) values ('f', 'never', 'x');

-- card_state_check1
insert into refill.card_state (fingerprint, stop, stopped_at) values ('f', 'never', now());

-- charge_check
update refill.charge set amount_minor = 999;

-- charge_amount_minor_check
update refill.charge set amount_minor = 0, net_minor = 0;

-- charge_check1
update refill.charge set settled_at = null where charge_id = 1;

-- charge_check2
update refill.charge set state = 'confirming' where charge_id = 2;

-- charge_payment_intent_key
update refill.charge set payment_intent = 'pi';

-- charge_reason_check
update refill.charge set reason = 'gift';

-- charge_line_check
update refill.charge_line set amount_minor = 999;

-- charge_line_credits_check
update refill.charge_line set credits = 0;

-- charge_line_lot_id_key
update refill.charge_line set lot_id = 1;

-- charge_line_one_open
update refill.charge_line set open = true;

-- charge_line_charge_id_account_id_key
insert into refill.charge_line (charge_id, line, account_id, credits, net_minor, tax_minor, amount_minor)
    values (1, 2, 1, 1, 1, 0, 1);

-- attempt_in_flight
insert into refill.attempt (charge_id, fingerprint, is_reattempt, request, reserved_at)
    select 1, 'f', false, '{}', now() from generate_series(1, 2);

-- attempt_state_check
insert into refill.attempt (charge_id, fingerprint, state, is_reattempt, request, reserved_at)
    values (1, 'f', 'lost', false, '{}', now());

-- invoice_charge_id_key
insert into refill.invoice
    select 'x', program_id, year, 2, charge_id, organisation_id, now(), currency, 1, 0, 1, '{}' from refill.invoice;

-- invoice_program_id_year_number_key
insert into refill.invoice
    select 'x', program_id, year, 1, 2, organisation_id, now(), currency, 1, 0, 1, '{}' from refill.invoice;

-- invoice_check
insert into refill.invoice
    select 'x', program_id, year, 2, 2, organisation_id, now(), currency, 1, 0, 2, '{}' from refill.invoice;

-- invoice_number_check
insert into refill.invoice
    select 'x', program_id, year, 0, 2, organisation_id, now(), currency, 1, 0, 1, '{}' from refill.invoice;

-- message_kind_check
insert into refill.message (account_id, kind, to_address, data, next_at, created_at)
    values (1, 'hello', 'a@example.com', '{}', now(), now());

-- message_state_check
insert into refill.message (account_id, kind, to_address, data, state, next_at, created_at)
    values (1, 'low', 'a@example.com', '{}', 'lost', now(), now());

-- message_check
insert into refill.message (account_id, kind, to_address, data, state, next_at, created_at)
    values (1, 'low', 'a@example.com', '{}', 'sent', now(), now());

-- message_check1
insert into refill.message (account_id, kind, data, next_at, created_at) values (1, 'low', '{}', now(), now());

-- event_numbered
insert into refill.event_log (at, type, data, seq) select now(), 'x', '{}', 5 from generate_series(1, 2);

-- job_slot_pkey
insert into refill.job_slot (job, slot, claimed_by) select 'sweep', '2026-01-01', 'me' from generate_series(1, 2);

-- quarantine_stream_id_key
insert into refill.quarantine (stream_id, reason, detail, fields)
    select '1-1', 'x', 'y', '{}' from generate_series(1, 2);

-- request_pkey
insert into refill.request (program_id, operation, request_id, content_hash, result, actor)
    select 1, 'grant', 'r', '', '{}', 'me' from generate_series(1, 2);

-- installation_pkey
insert into refill.installation default values;

-- installation_singleton_check
insert into refill.installation (singleton) values (false);

-- member_role_check
insert into refill.member (organisation_id, name, role) values (1, 'ada', 'guest');

-- member_organisation_id_name_key
insert into refill.member (organisation_id, name, role) select 1, 'ada', 'user' from generate_series(1, 2);

-- watch_pkey
insert into refill.watch (account_id, due_at, since) select 1, now(), now() from generate_series(1, 2);
