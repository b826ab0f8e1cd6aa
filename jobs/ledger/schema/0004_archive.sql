-- Months of entries that were taken out into files (jobs/archive.py), and what the ledger keeps of them.
--
-- A month is archived while it has a row here that was not restored. Its entries are then in the file, whose sha256 is here,
-- and their sums are in refill.entry_carried: written in the transaction that takes the partition out, removed in the one that
-- puts it back, so that an entry counts once at every moment.
create table refill.entry_archive (
    entry_archive_id bigint generated always as identity primary key,
    month            text not null check (month ~ '^\d{4}-\d{2}$'),
    since            timestamptz not null,  -- before its month where it is the first: what a release without months had
    until            timestamptz not null,
    file             text not null,         -- its name, without a directory: files move
    sha256           text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    bytes            bigint not null,
    rows             bigint not null,
    credits          numeric not null,
    archived_at      timestamptz not null default now(),
    archived_by      text not null,
    restored_at      timestamptz,
    restored_by      text,
    check (since < until),
    check ((restored_at is null) = (restored_by is null))
);
create unique index entry_archive_of_month on refill.entry_archive (month) where restored_at is null;
create index entry_archive_by_sha256 on refill.entry_archive (sha256);

-- Entries of an archived month added up: one row for all that are alike in everything but time, amount and event.
create table refill.entry_carried (
    entry_archive_id bigint not null references refill.entry_archive,
    kind             refill.entry_kind not null,
    program_id       int not null,
    from_side        bigint not null,
    to_side          bigint not null,
    lot_id           bigint not null,
    charge_id        bigint,
    entries          bigint not null check (entries > 0),
    amount           bigint not null check (amount >= entries),
    first_at         timestamptz not null,
    last_at          timestamptz not null
);
create unique index entry_carried_once on refill.entry_carried
    (entry_archive_id, from_side, to_side, lot_id, kind, program_id, coalesce(charge_id, 0));
create index entry_carried_from on refill.entry_carried (from_side) where from_side > 0;
create index entry_carried_to on refill.entry_carried (to_side) where to_side > 0;

-- Where each account stood: the entries before and after an archived month go on from each other through this.
create table refill.entry_carried_account (
    entry_archive_id bigint not null references refill.entry_archive,
    account_id       bigint not null,
    first_entry_id   bigint not null,
    last_entry_id    bigint not null check (last_entry_id >= first_entry_id),
    opening          bigint not null check (opening >= 0),
    closing          bigint not null check (closing >= 0),
    entries          bigint not null check (entries > 0),
    spend_events     bigint not null check (spend_events >= 0),
    primary key (account_id, entry_archive_id)
);
