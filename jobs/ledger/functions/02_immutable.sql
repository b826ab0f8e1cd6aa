-- What has been written into the books stays as it is, whoever asks.
create or replace function refill.refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception '% of refill.% is refused: its rows are immutable', tg_op, tg_table_name
        using errcode = 'restrict_violation', hint = 'Correct a mistake with a new entry.';
end $$;

create or replace trigger immutable before update or delete or truncate on refill.entry
    for each statement execute function refill.refuse_change();
create or replace trigger immutable before update or delete or truncate on refill.spend_event
    for each statement execute function refill.refuse_change();
create or replace trigger immutable before update or delete or truncate on refill.invoice
    for each statement execute function refill.refuse_change();
create or replace trigger immutable before update or delete or truncate on refill.policy_change
    for each statement execute function refill.refuse_change();

-- The live line of an account is the line of an open charge: the partial unique index then holds "one open line per account".
create or replace function refill.follow_charge_state() returns trigger
language plpgsql as $$
begin
    update refill.charge_line set open = false where charge_id = new.charge_id and open;
    return null;
end $$;

create or replace trigger close_lines after update of state on refill.charge
    for each row when (new.state in ('needs_customer', 'succeeded', 'declined', 'cancelled'))
    execute function refill.follow_charge_state();
