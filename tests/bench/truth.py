"""Whether what was measured is also right: the books audit clean, and a plain second ledger comes to the same.

A `Witness` knows the lots of some accounts from before. Afterwards it takes their events, in the order in which the
ledger booked them, through tests/ledger/oracle.py, one event and one lot at a time, and compares every outcome, every
balance and what each lot has left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from jobs.audit import audit
from jobs.ledger.database import Connection, connect, database_now, fetch_one
from tests.ledger.books import Spend
from tests.ledger.oracle import Oracle, OracleAccount, OracleLot

_WITNESSED = 100


class Witness:
    """Watches some accounts of a ledger, from when it is made to when it testifies."""

    def __init__(self, url: str, accounts: Iterable[str]) -> None:
        self._url = url
        self._sent: dict[str, list[Spend]] = {account: [] for account in accounts}
        with connect(url) as connection:
            self._last_entry_id = int(fetch_one(connection, "select coalesce(max(entry_id), 0) from refill.entry")[0])
            self._lots = _lots(connection, [*self._sent])

    def saw(self, event_id: str, account: str, amount: int) -> None:
        """An event was sent, after those that it saw before."""
        if account in self._sent:
            self._sent[account].append(Spend(event_id, account, amount))

    def testify(self, *, in_order: bool) -> None:
        """Raises AssertionError where the ledger says anything else than the oracle about what was sent.

        `in_order`: each account's events were booked in the order in which they were sent. With several intakes it is
        only promised that they were.
        """
        with connect(self._url) as connection:
            booked = self._booked(connection)
            for account, sent in self._sent.items():
                found = [spend for spend, _ in booked[account]]
                assert (found if in_order else sorted(found)) == (sent if in_order else sorted(sent)), account
            self._compare(connection, booked)

    def testify_to_what_was_booked(self) -> None:
        """As `testify`, where nobody kept what was sent: only what the ledger made of it can be judged."""
        with connect(self._url) as connection:
            self._compare(connection, self._booked(connection))

    def _booked(self, connection: Connection) -> Mapping[str, Sequence[tuple[Spend, int]]]:
        """The accepted events of each account since it began to watch, in the order of their entries."""
        rows = connection.execute(
            """
            select a.name, e.event_id, s.amount, s.balance_after
            from (select event_id, program_id, from_side, min(entry_id) as first_id from refill.entry
                  where from_side = any(select account_id from refill.account where name = any(%s))
                    and entry_id > %s and kind = 'spend' group by event_id, program_id, from_side) e
            join refill.spend_event s using (event_id, program_id) join refill.account a on a.account_id = e.from_side
            order by e.first_id
            """,
            ([*self._sent], self._last_entry_id),
        ).fetchall()
        booked: dict[str, list[tuple[Spend, int]]] = defaultdict(list)
        for account, event_id, amount, balance_after in rows:
            booked[account].append((Spend(event_id, account, amount), balance_after))
        return booked

    def _compare(self, connection: Connection, booked: Mapping[str, Sequence[tuple[Spend, int]]]) -> None:
        oracle, now = Oracle(), database_now(connection)
        for account, lots in self._lots.items():
            oracle.accounts[account] = OracleAccount("points", lots=[*lots])
        for spends in booked.values():
            for spend, balance_after in spends:
                answer = oracle.post(spend, now)
                assert (answer.outcome, answer.balance) == ("accepted", balance_after), (spend, answer, balance_after)
        remaining = {lot.lot_id: lot.remaining for lots in _lots(connection, [*self._sent]).values() for lot in lots}
        assert remaining == oracle.live_lots(now)


def some_accounts(accounts: int) -> list[str]:
    """Some of the accounts `account-1` to `account-N`, the first among them."""
    return [f"account-{number}" for number in range(1, accounts + 1, max(accounts // _WITNESSED, 1))]


def _lots(connection: Connection, accounts: Sequence[str]) -> Mapping[str, Sequence[OracleLot]]:
    rows = connection.execute(
        """
        select a.name, l.lot_id, l.class = 'paid', l.effective_at, nullif(l.expires_at, 'infinity'), l.remaining
        from refill.lot l join refill.account a using (account_id) where a.name = any(%s)
        """,
        (list(accounts),),
    ).fetchall()
    lots: dict[str, list[OracleLot]] = {account: [] for account in accounts}
    for account, *values in rows:
        lots[account].append(OracleLot(*values))
    return lots


def outcomes(url: str) -> Mapping[str, tuple[int, int]]:
    """How many events had each outcome, and how many credits they asked for."""
    with connect(url) as connection:
        rows = connection.execute(
            "select outcome::text, count(*), sum(amount)::bigint from refill.spend_event group by outcome"
        ).fetchall()
    return {outcome: (count, credits_asked) for outcome, count, credits_asked in rows}


def credits_held(url: str) -> int:
    """What all accounts hold together."""
    with connect(url) as connection:
        return int(fetch_one(connection, "select coalesce(sum(balance), 0)::bigint from refill.account")[0])


def prove(url: str, held: int) -> None:
    """Every identity of the ledger holds, and the accounts hold exactly so much. Raises AssertionError."""
    found = credits_held(url)
    assert found == held, f"the accounts hold {found} credits, not {held}"
    prove_audit(url)


def prove_audit(url: str) -> None:
    """Every identity of the ledger holds. Raises AssertionError."""
    with connect(url) as connection:
        connection.execute("analyze")  # as autovacuum would have by the time that somebody audits
        findings = audit(connection)
    assert findings == [], findings
