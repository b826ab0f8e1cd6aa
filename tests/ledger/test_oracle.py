"""The ledger against an oracle: whatever happens in whatever order, both say the same, and the books audit clean.

Derandomised and short by default; REFILL_ORACLE_EXAMPLES=2000 searches anew and for long.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs.ledger.database import Connection
from tests.ledger.books import AS_A_SET, BIGINT_MAX, DAY, HOUR, ONE_BY_ONE, T0, Answer, Books, Spend, empty
from tests.ledger.oracle import Oracle, OracleAccount

IDLE_DAYS = 10
PROGRAMS = {"ada": "mail", "bob": "mail", "cyd": "points", "dan": "sms"}
LATE = "late"  # an account that is opened on the way; until then nobody knows it
NOBODY = "nobody"

amounts = st.one_of(st.integers(1, 60), st.sampled_from([1, 1_000, BIGINT_MAX]))
grants = st.integers(1, 80)
expiries = st.one_of(st.none(), st.integers(1, 12 * 24).map(lambda hours: timedelta(hours=hours)))
known = st.sampled_from([*PROGRAMS, LATE])
# Few ids, so that they meet again, as replays and as conflicts. Ids of accounts that nobody knows are their own.
spends = st.builds(
    lambda account, number, amount, memo: Spend(
        f"{'u' if account in (LATE, NOBODY) else 'e'}{number}", account, amount, memo=memo
    ),
    st.sampled_from([*PROGRAMS, LATE, NOBODY]),
    st.integers(0, 40),
    amounts,
    st.sampled_from([None, None, None, "memo"]),
)

PATIENT = os.environ.get("REFILL_ORACLE_EXAMPLES")
PROFILE = settings(
    max_examples=int(PATIENT or 150),
    stateful_step_count=60 if PATIENT else 30,
    derandomize=PATIENT is None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class LedgerMachine(RuleBasedStateMachine):
    """Does the same to both, and compares."""

    def __init__(self, connection: Connection, set_min: int) -> None:
        super().__init__()
        empty(connection)
        self.books = Books(connection, set_min)
        self.oracle = Oracle()
        self.now = T0
        self.posted: list[Spend] = []

    @initialize()
    def open_accounts(self) -> None:
        for account, program in PROGRAMS.items():
            idle_days = IDLE_DAYS if program == "points" else None
            self.books.open(account, program, idle_days=idle_days, alert_below=20, recharge_below=10)
            self.oracle.accounts[account] = OracleAccount(program, idle_days)

    @precondition(lambda self: LATE not in self.oracle.accounts)
    @rule()
    def open_the_late_account(self) -> None:
        self.books.open(LATE)
        self.oracle.accounts[LATE] = OracleAccount("mail")

    @rule(account=st.sampled_from([*PROGRAMS]))
    def close_or_reopen(self, account: str) -> None:
        holder = self.oracle.accounts[account]
        holder.is_closed = not holder.is_closed
        self.books.change(account, closed_at=self.now if holder.is_closed else None)

    @rule(account=known, amount=grants, lifetime=expiries, is_paid=st.booleans())
    def grant(self, account: str, amount: int, lifetime: timedelta | None, is_paid: bool) -> None:
        if account not in self.oracle.accounts:
            return
        expires_at = None if lifetime is None else self.now + lifetime
        give = self.books.buy if is_paid else self.books.grant
        lot_id = give(account, amount, expires_at=expires_at, now=self.now)
        self.oracle.grant(account, lot_id, amount, is_paid=is_paid, expires_at=expires_at, now=self.now)

    @rule(batch=st.lists(spends, min_size=1, max_size=8))
    def post(self, batch: list[Spend]) -> None:
        self._post(batch)

    @precondition(lambda self: bool(self.posted))
    @rule(batch=st.lists(spends, max_size=3), data=st.data())
    def replay(self, batch: list[Spend], data: st.DataObject) -> None:
        again = data.draw(st.lists(st.sampled_from(self.posted), min_size=1, max_size=3))
        self._post(data.draw(st.permutations([*again, *batch])))

    def _post(self, batch: list[Spend]) -> None:
        self.posted += batch
        for account in {s.account for s in batch} & self.oracle.accounts.keys():
            self.oracle.accounts[account].bury(self.now)
        expected: list[Answer] = [self.oracle.post(spend, self.now) for spend in batch]
        assert self.books.post(*batch, now=self.now) == expected

    @rule(elapsed=st.sampled_from([HOUR, 5 * HOUR, DAY, 3 * DAY, IDLE_DAYS * DAY]))
    def time_passes(self, elapsed: timedelta) -> None:
        self.now += elapsed

    @rule(accounts=st.sets(st.sampled_from([*PROGRAMS]), min_size=1))
    def sweep(self, accounts: set[str]) -> None:
        self.books.expire(*accounts, now=self.now)

    @invariant()
    def lots_are_the_same(self) -> None:
        found = self.books.rows(
            "select lot_id, case when least(l.expires_at, a.idle_expires_at) > %s then l.remaining else 0 end"
            " from refill.lot l join refill.account a using (account_id)",
            (self.now,),
        )
        assert dict(found) == self.oracle.live_lots(self.now)

    def teardown(self) -> None:
        if self.oracle.accounts:
            self.books.expire(*self.oracle.accounts, now=self.now)
            assert {name: self.books.balance(name) for name in self.oracle.accounts} == {
                name: account.balance for name, account in self.oracle.accounts.items()
            }
        assert self.books.audit(now=self.now) == []


@pytest.mark.parametrize("set_min", [AS_A_SET, 4, ONE_BY_ONE], ids=["as a set", "as they come", "one by one"])
def test_the_ledger_says_what_the_rules_say(connection: Connection, set_min: int) -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(connection, set_min)

    run_state_machine_as_test(Machine, settings=PROFILE)
