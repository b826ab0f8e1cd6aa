-- Two roles for other services: refill_read sees the views of the contract, refill_spend may also call refill.spend(). Neither
-- can touch a table. Roles belong to the whole server, so another database may have made them already, or be doing so now.
do $$
declare
    v_role text;
begin
    foreach v_role in array array['refill_read', 'refill_spend'] loop
        if not exists (select from pg_roles where rolname = v_role) then
            begin
                execute format('create role %I nologin', v_role);
            exception when duplicate_object or unique_violation then
                raise notice 'role % was made by another migration just now', v_role;
            end;
        end if;
    end loop;
end $$;

revoke all on all tables in schema refill from public;
revoke all on all functions in schema refill from public;
grant usage on schema refill to refill_read, refill_spend;
grant select on refill.balance, refill.entry_history, refill.spend_outcome, refill.charge_history, refill.decision, refill.event,
    refill.quarantine to refill_read, refill_spend;
grant execute on function refill.newest_entries(text, int, bigint) to refill_read, refill_spend;
grant execute on function refill.spend(text, bigint, text, text, text) to refill_spend;
