-- The ledger: programs, organisations, accounts, lots, entries and the outcome of every spend event.
--
-- Amounts are whole credits in the program's smallest unit; money is in minor units with its ISO 4217 code. Names that other
-- systems rely on are views and functions (see ../functions); these tables are ours.

create type refill.lot_class as enum ('promotional', 'paid');  -- in the order in which they are drawn

create type refill.entry_kind as enum (
    'purchase', 'recharge', 'promotion', 'spend', 'expiry', 'reinstatement', 'transfer_in', 'transfer_out',
    'refund', 'refund_release', 'dispute', 'dispute_release', 'debt_repayment', 'adjustment'
);

create type refill.outcome as enum (
    'accepted', 'insufficient_credit', 'unknown_account', 'account_closed', 'malformed', 'conflict'
);

-- One row, written by the first migration. A database marked as sandbox allows jobs to be run for any moment.
create table refill.installation (
    singleton       boolean primary key default true check (singleton),
    installation_id uuid not null default gen_random_uuid(),
    is_sandbox      boolean not null default false,
    created_at      timestamptz not null default now()
);
insert into refill.installation default values;

create table refill.program (
    program_id  int generated always as identity primary key,
    name        text not null unique check (name ~ '^[a-z][a-z0-9_]{0,31}$'),
    decimals    smallint not null check (decimals between 0 and 9),
    currency    text not null check (currency ~ '^[A-Z]{3}$'),
    time_zone   text not null,
    expiry_kind text not null check (expiry_kind in ('none', 'fixed', 'inactivity')),
    expiry_days int check (expiry_days > 0),
    terms       jsonb not null,  -- the whole program file, validated by jobs/program.py
    loaded_at   timestamptz not null default now(),
    check ((expiry_kind = 'none') = (expiry_days is null))
);

create table refill.organisation (
    organisation_id bigint generated always as identity primary key,
    name            text not null unique check (length(name) between 1 and 64),
    created_at      timestamptz not null default now()
);

-- How an organisation holds the credit of one program: on one shared balance or on individual user balances.
create table refill.organisation_program (
    organisation_id bigint not null references refill.organisation,
    program_id      int not null references refill.program,
    sharing         text not null default 'shared' check (sharing in ('shared', 'individual')),
    primary key (organisation_id, program_id)
);

create table refill.account (
    account_id      bigint generated always as identity primary key,
    program_id      int not null,
    organisation_id bigint not null,
    name            text collate "C" not null unique check (length(name) between 1 and 64),
    is_system       boolean not null default false,
    email           text,
    tier            text,
    balance         bigint not null default 0 check (balance >= 0),
    -- The effective levels of the policy, kept here so that a posting sees a crossing without reading another table.
    alert_below     bigint check (alert_below > 0),
    recharge_below  bigint check (recharge_below > 0),
    -- No open lot expires before this: a lower bound, set right whenever it is reached.
    expires_next    timestamptz not null default 'infinity',
    -- Programs with expiry by inactivity: the moment at which all lots of a silent account die.
    idle_expires_at timestamptz not null default 'infinity',
    opened_at       timestamptz not null default now(),
    closed_at       timestamptz,
    updated_at      timestamptz not null default now(),
    -- 0 depleted, 1 low, 2 near (at the alert level but not clearly above it), 3 clear (alert level x 1.1 or more).
    band            smallint not null generated always as (
        case when balance = 0 then 0
             when balance < coalesce(alert_below, 0) then 1
             when balance - coalesce(alert_below, 0) < coalesce(alert_below, 0) / 10
                  + case when coalesce(alert_below, 0) % 10 = 0 then 0 else 1 end then 2
             else 3 end) stored,
    below_trigger   boolean not null generated always as (balance < coalesce(recharge_below, 0)) stored,
    foreign key (organisation_id, program_id) references refill.organisation_program
) with (fillfactor = 70);
create unique index account_one_system on refill.account (organisation_id, program_id) where is_system and closed_at is null;
create index account_of_organisation on refill.account (organisation_id, program_id);

create table refill.member (
    member_id       bigint generated always as identity primary key,
    organisation_id bigint not null references refill.organisation,
    name            text not null check (length(name) between 1 and 64),
    role            text not null check (role in ('master', 'manager', 'user')),
    added_at        timestamptz not null default now(),
    unique (organisation_id, name)
);
create table refill.member_account (
    member_id  bigint not null references refill.member,
    account_id bigint not null references refill.account,
    primary key (member_id, account_id)
);

create table refill.lot (
    lot_id        bigint generated always as identity primary key,
    account_id    bigint not null references refill.account,
    class         refill.lot_class not null,
    granted       bigint not null check (granted > 0),
    remaining     bigint not null,
    price_minor   bigint not null default 0 check (price_minor >= 0),  -- what was paid for it, tax included
    currency      text not null,
    effective_at  timestamptz not null,
    expires_at    timestamptz not null default 'infinity',
    charge_id     bigint,
    origin_lot_id bigint references refill.lot,
    open          boolean not null generated always as (remaining > 0) stored,
    check (remaining between 0 and granted),
    check (expires_at > effective_at),
    check ((class = 'paid') = (charge_id is not null))
) with (fillfactor = 70);
-- `open` changes only when a lot is emptied or revived, so that ordinary draws stay heap-only updates.
create index lot_open on refill.lot (account_id, expires_at) where open;
create index lot_due on refill.lot (expires_at) where open and expires_at < 'infinity';
create unique index lot_of_charge on refill.lot (charge_id, account_id) where charge_id is not null and origin_lot_id is null;

-- One movement from one side to another. Accounts are sides with positive ids; a program's own sides have negative ids that
-- carry the program (refill.own_side). No foreign key on the hot columns: `refill audit` proves what they would say.
create table refill.entry (
    entry_id     bigint generated always as identity primary key,
    at           timestamptz not null,
    kind         refill.entry_kind not null,
    program_id   int not null,
    from_side    bigint not null,
    to_side      bigint not null,
    amount       bigint not null check (amount > 0),
    lot_id       bigint not null,
    from_balance bigint check (from_balance >= 0),
    to_balance   bigint check (to_balance >= 0),
    charge_id    bigint,
    event_id     text collate "C",  -- of the spend event or of the command that caused it
    memo         text,
    actor        text,
    check (from_side <> to_side),
    check ((from_side > 0) = (from_balance is not null)),
    check ((to_side > 0) = (to_balance is not null)),
    check (from_side > 0 or -from_side / 8 = program_id),
    check (to_side > 0 or -to_side / 8 = program_id)
);
create index entry_from on refill.entry (from_side, entry_id) where from_side > 0;
create index entry_to on refill.entry (to_side, entry_id) where to_side > 0;

-- The one outcome of each spend event, by upstream's own id within the program; program 0 holds events of unknown accounts.
create table refill.spend_event (
    event_id      text collate "C" not null check (length(event_id) between 1 and 64),
    program_id    int not null,
    account_id    bigint,
    account       text collate "C",  -- only where no account has the name
    amount        bigint not null check (amount > 0),
    outcome       refill.outcome not null check (outcome not in ('malformed', 'conflict')),
    balance_after bigint,
    shortfall     bigint,
    spent_at      timestamptz,       -- upstream's `at`: kept and shown, orders nothing
    ref           text,
    memo          text,
    actor         text,
    posted_at     timestamptz not null,
    primary key (event_id, program_id),
    check ((account_id is null) = (program_id = 0)),
    check ((account_id is null) = (account is not null)),
    check ((outcome = 'insufficient_credit') = (coalesce(shortfall, 0) > 0))
);

-- Events that cannot be read or that contradict an earlier one: kept as they came, with the reason.
create table refill.quarantine (
    quarantine_id bigint generated always as identity primary key,
    stream_id     text not null unique,
    reason        text not null,
    detail        text not null,
    fields        jsonb not null,
    at            timestamptz not null default now()
);

-- Commands that moved credit, by their request id: the same id and content gives the first result again.
create table refill.request (
    program_id   int not null references refill.program,
    operation    text not null,
    request_id   text collate "C" not null,
    content_hash bytea not null,
    result       jsonb not null,
    actor        text not null,
    at           timestamptz not null default now(),
    primary key (program_id, operation, request_id)
);
