-- Alerts, policies, cards, charges with their attempts and invoices, and what is to be looked at, said and sent.

create type refill.charge_state as enum (
    'throttled', 'reserved', 'created', 'confirming', 'processing', 'unknown', 'needs_review',  -- open
    'needs_customer', 'succeeded', 'declined', 'cancelled'                                      -- ended
);

create type refill.verdict as enum (
    'recharge', 'above_trigger', 'charge_open', 'card_cooling', 'card_attempts', 'cap_month', 'cap_day',
    'paused', 'off', 'no_card', 'managed_elsewhere'
);

-- Whether the low alert may fire: it re-arms after the balance has been clearly above its level for 15 minutes.
create table refill.alert (
    account_id  bigint primary key references refill.account,
    low_armed   boolean not null default true,
    clear_since timestamptz,
    low_sent_at timestamptz
);

-- An account's own settings; null means that its tier or program decides. Off unless somebody switched it on.
create table refill.policy (
    account_id     bigint primary key references refill.account,
    enabled        boolean not null default false,
    alert_below    bigint check (alert_below > 0),
    recharge_below bigint check (recharge_below > 0),
    amount         bigint check (amount > 0),
    target         bigint check (target > 0),
    cap_month      bigint check (cap_month > 0),  -- minor units of the program's currency, tax included
    cap_day        bigint check (cap_day > 0),
    updated_at     timestamptz not null default now(),
    check (amount is null or target is null)
);

-- Who changed a policy, when, and what was shown to them: kept for disputes.
create table refill.policy_change (
    policy_change_id bigint generated always as identity primary key,
    account_id       bigint not null references refill.account,
    at               timestamptz not null default now(),
    actor            text not null,
    before           jsonb not null,
    after            jsonb not null
);
create index policy_change_of_account on refill.policy_change (account_id, policy_change_id);

create table refill.card (
    card_id        bigint generated always as identity primary key,
    account_id     bigint not null references refill.account,
    payment_method text not null,
    customer       text not null,
    fingerprint    text not null,
    brand          text not null,
    last4          text not null,
    exp_month      smallint not null,
    exp_year       smallint not null,
    added_at       timestamptz not null default now(),
    added_by       text not null,
    removed_at     timestamptz,
    unique (account_id, payment_method)
);
create unique index card_in_use on refill.card (account_id) where removed_at is null;
create index card_by_fingerprint on refill.card (fingerprint) where removed_at is null;

-- What is known of one physical card over all accounts. A stop ends with another card or by an operator, never with time.
create table refill.card_state (
    fingerprint          text primary key,
    consecutive_declines int not null default 0 check (consecutive_declines >= 0),
    not_before           timestamptz not null default '-infinity',
    stop                 text check (stop in ('never', 'operator', 'breaker', 'needs_customer', 'new_details', 'declined')),
    stop_reason          text,
    stopped_at           timestamptz,
    updated_at           timestamptz not null default now(),
    check ((stop is null) = (stopped_at is null)),
    check ((stop is null) = (stop_reason is null))
);

-- The intent to take money once.
create table refill.charge (
    charge_id       bigint generated always as identity primary key,
    program_id      int not null references refill.program,
    organisation_id bigint not null references refill.organisation,
    reason          text not null check (reason in ('recharge', 'purchase')),
    state           refill.charge_state not null default 'reserved',
    fingerprint     text not null,
    payment_method  text not null,
    customer        text not null,
    currency        text not null,
    net_minor       bigint not null check (net_minor >= 0),
    tax_minor       bigint not null check (tax_minor >= 0),
    amount_minor    bigint not null check (amount_minor > 0),  -- what the card is asked for
    tax             jsonb,          -- name and rate as they were when the amounts were computed; null where there is none
    payment_intent  text unique,
    decline         text,           -- the decisive signal, in the processor's words
    detail          text,           -- why it needs review, was cancelled or is unknown
    opened_at       timestamptz not null,
    first_sent_at   timestamptz,    -- when the first confirmation left; keys are replayed only for 23 hours after
    settled_at      timestamptz,
    ended_at        timestamptz,
    next_check_at   timestamptz not null,
    checks          int not null default 0,
    check (amount_minor = net_minor + tax_minor),
    check ((state = 'succeeded') = (settled_at is not null)),
    check (state not in ('created', 'confirming', 'processing') or payment_intent is not null)
);
create index charge_to_check on refill.charge (next_check_at)
    where state in ('reserved', 'created', 'confirming', 'processing', 'unknown', 'needs_review');
create index charge_by_fingerprint on refill.charge (fingerprint, charge_id);

-- One account that a charge pays for. `open` follows the charge's state (trigger), so that one line per account can be live.
create table refill.charge_line (
    charge_id    bigint not null references refill.charge,
    line         smallint not null,
    account_id   bigint not null references refill.account,
    credits      bigint not null check (credits > 0),
    net_minor    bigint not null check (net_minor >= 0),
    tax_minor    bigint not null check (tax_minor >= 0),
    amount_minor bigint not null check (amount_minor = net_minor + tax_minor),
    lot_id       bigint unique references refill.lot,
    open         boolean not null default true,
    primary key (charge_id, line),
    unique (charge_id, account_id)
);
create unique index charge_line_one_open on refill.charge_line (account_id) where open;
create index charge_line_of_account on refill.charge_line (account_id, charge_id);

-- One confirmation sent to the card network, with its request frozen before it is sent.
create table refill.attempt (
    attempt_id   uuid primary key default gen_random_uuid(),
    charge_id    bigint not null references refill.charge,
    fingerprint  text not null,
    state        text not null default 'reserved'
                 check (state in ('reserved', 'sent', 'succeeded', 'declined', 'needs_customer', 'cancelled', 'released')),
                 -- cancelled may have reached the card and counts; released provably never did
    is_reattempt boolean not null,  -- the attempt before it on this card was declined
    request      jsonb not null,
    reserved_at  timestamptz not null,
    sent_at      timestamptz,
    finished_at  timestamptz,
    decline      jsonb,             -- every code that the processor gave
    next_attempt_at timestamptz
);
create index attempt_by_fingerprint on refill.attempt (fingerprint, reserved_at);
create index attempt_of_charge on refill.attempt (charge_id);
create unique index attempt_in_flight on refill.attempt (fingerprint) where state in ('reserved', 'sent');

create table refill.invoice_counter (
    program_id int not null references refill.program,
    year       int not null,
    last       int not null,
    primary key (program_id, year)
);

-- Immutable; numbered without gaps per program and year of the program's time zone.
create table refill.invoice (
    invoice_number  text primary key,
    program_id      int not null references refill.program,
    year            int not null,
    number          int not null check (number > 0),
    charge_id       bigint not null unique references refill.charge,
    organisation_id bigint not null references refill.organisation,
    issued_at       timestamptz not null,
    currency        text not null,
    net_minor       bigint not null,
    tax_minor       bigint not null,
    amount_minor    bigint not null check (amount_minor = net_minor + tax_minor),
    document        jsonb not null,  -- seller, buyer, lines and tax as they were on that day
    unique (program_id, year, number)
);

-- Every evaluation whose verdict or next time was new; an unchanged one only moves seen_at.
create table refill.evaluation (
    evaluation_id  bigint generated always as identity primary key,
    account_id     bigint not null references refill.account,
    at             timestamptz not null,
    seen_at        timestamptz not null,
    projected      bigint not null,
    recharge_below bigint,
    verdict        refill.verdict not null,
    next_at        timestamptz,
    charge_id      bigint references refill.charge,
    facts          jsonb not null
);
create index evaluation_of_account on refill.evaluation (account_id, evaluation_id desc);

-- Accounts below their trigger: the sweep looks at each one whose time has come. Losing a poke costs time, never truth.
create table refill.watch (
    account_id bigint primary key references refill.account,
    due_at     timestamptz not null,
    since      timestamptz not null,
    event_id   text collate "C"  -- of the spend that took it below, where it was a spend
);
create index watch_due on refill.watch (due_at);

create table refill.message (
    message_id uuid primary key default gen_random_uuid(),
    account_id bigint not null references refill.account,
    kind       text not null check (kind in ('low', 'depleted', 'recharge_succeeded', 'declined', 'paused')),
    to_address text,
    data       jsonb not null,
    state      text not null default 'pending' check (state in ('pending', 'sent', 'poisoned', 'unaddressed')),
    attempts   int not null default 0,
    next_at    timestamptz not null,
    last_error text,
    created_at timestamptz not null,
    sent_at    timestamptz,
    check ((state = 'sent') = (sent_at is not null)),
    check (state = 'unaddressed' or to_address is not null)
);
create index message_pending on refill.message (next_at) where state = 'pending';
create index message_of_account on refill.message (account_id, created_at);

-- What happened, for upstream. `seq` is given after commit by one sequencer, so that it follows commit order.
create table refill.event_log (
    event_log_id bigint generated always as identity primary key,
    at           timestamptz not null,
    type         text not null,
    account_id   bigint references refill.account,
    account      text,  -- only where no account has the name
    data         jsonb not null,
    seq          bigint unique
);
create index event_unsequenced on refill.event_log (event_log_id) where seq is null;

-- Where a reader of an outside sequence stands.
create table refill.cursor (
    name  text primary key,
    value bigint not null
);

-- One run of a scheduled job; claiming the slot makes two leaders harmless.
create table refill.job_slot (
    job         text not null,
    slot        timestamptz not null,
    claimed_by  text not null,
    claimed_at  timestamptz not null default now(),
    finished_at timestamptz,
    result      jsonb,
    primary key (job, slot)
);
