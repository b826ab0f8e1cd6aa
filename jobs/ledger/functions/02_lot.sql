-- What a lot says of itself, looked at where it is said: a draw changes none of it.
create or replace function refill.check_lot() returns trigger
language plpgsql as $$
begin
    if new.expires_at <= new.effective_at then
        raise exception 'a lot expires after it begins' using errcode = 'check_violation', constraint = 'lot_expires_after_it_begins';
    end if;
    if (new.class = 'paid') <> (new.charge_id is not null) then
        raise exception 'a paid lot has a charge, and no other has' using errcode = 'check_violation', constraint = 'lot_paid_has_charge';
    end if;
    return new;
end $$;

create or replace trigger sound before insert or update of effective_at, expires_at, class, charge_id on refill.lot
    for each row execute function refill.check_lot();
