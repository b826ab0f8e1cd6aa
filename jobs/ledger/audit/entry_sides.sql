-- An own side that carries another program, or a number that no own side has, is as wrong as a missing account.
select format('%s, side %s', coalesce('entry ' || e.entry_id, 'entries carried from archive ' || e.entry_archive_id), s.side) as subject, 'a side of program ' || e.program_id as expected,
       case when s.side > 0 then coalesce('account ' || a.name || ' of program ' || a.program_id, 'no such account')
            else coalesce(refill.own_side_name(s.side) || ' of program ' || -s.side / 8, 'no such side') end as found
from refill.movement e
cross join lateral (values (e.from_side), (e.to_side)) s(side)
left join refill.account a on a.account_id = s.side
where case when s.side > 0 then a.program_id is distinct from e.program_id
           else -s.side / 8 <> e.program_id or refill.own_side_name(s.side) is null end
