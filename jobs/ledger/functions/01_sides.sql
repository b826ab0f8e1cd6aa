-- A program's own sides have negative ids that carry the program: no join is needed to know what a movement was for.
create or replace function refill.own_side(program_id int, name text) returns bigint
language sql immutable parallel safe as $$
    select -(program_id::bigint * 8 + case name
        when 'sales' then 0 when 'revenue' then 1 when 'breakage' then 2 when 'refunds' then 3 when 'promotion' then 4 end)
$$;

create or replace function refill.own_side_name(side bigint) returns text
language sql immutable parallel safe as $$
    select case -side % 8
        when 0 then 'sales' when 1 then 'revenue' when 2 then 'breakage' when 3 then 'refunds' when 4 then 'promotion' end
$$;
