"""What the tests of charging do again and again, in their words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from jobs.audit import audit
from jobs.charge import advance
from jobs.gateway.stripe import StripeGateway
from jobs.ledger.database import Connection, database_now, fetch_one
from jobs.recharge import Evaluation, evaluate
from jobs.throttle import Limits
from tests.support.sandbox import Sandbox
from tests.support.seed import grant, open_account, spend

LIMITS = Limits(
    cooling_success_s=900,
    cooling_failure_s=3600,
    attempts_24h_max=8,
    declines_24h_max=3,
    reattempts_30d_max=8,
    breaker_declines=3,
)


@dataclass(frozen=True)
class World:
    """A ledger, a processor, and the moment of the database."""

    connection: Connection
    gateway: StripeGateway
    sandbox: Sandbox
    url: str

    def account(
        self,
        name: str = "anna",
        card: str | None = "ok",
        *,
        balance: int = 1_000,
        program: str = "points",
        **policy: Any,
    ) -> int:
        """An account with credit, a card and an enabled policy: trigger 500, amount 1,000 unless told otherwise."""
        account_id = open_account(self.connection, name, program, email=f"{name}@example.com", recharge_below=500)
        grant(self.connection, account_id, balance)
        settings = {
            "enabled": True,
            "recharge_below": 500,
            "amount": 1_000,
            "cap_month": None,
            "cap_day": None,
        } | policy
        self.connection.execute(
            "insert into refill.policy (account_id, enabled, recharge_below, amount, cap_month, cap_day)"
            " values (%s, %s, %s, %s, %s, %s)",
            (account_id, *settings.values()),
        )
        if card is not None:
            self.save_card(account_id, card)
        return account_id

    def save_card(self, account_id: int, name: str) -> None:
        saved = self.gateway.save_test_card(name, "acme")
        self.connection.execute(
            "insert into refill.card (account_id, payment_method, customer, fingerprint, brand, last4, exp_month,"
            " exp_year, added_by) values (%s, %s, %s, %s, %s, %s, %s, %s, 'test')",
            (
                account_id,
                saved.payment_method,
                saved.customer,
                saved.fingerprint,
                saved.brand,
                saved.last4,
                saved.exp_month,
                saved.exp_year,
            ),
        )

    def spend(self, account: str, amount: int, event_id: str, now: datetime | None = None) -> str:
        return spend(self.connection, account, amount, event_id, now)

    def evaluate(self, account_id: int, limits: Limits = LIMITS, now: datetime | None = None) -> Evaluation:
        return evaluate(self.connection, account_id, limits, now)

    def advance(self, charge_id: int | None, now: datetime | None = None) -> str:
        assert charge_id is not None, "no charge was reserved"
        return advance(self.connection, self.gateway, charge_id, LIMITS, now)

    def recharge(self, account_id: int, limits: Limits = LIMITS, now: datetime | None = None) -> str:
        """Evaluates the account and drives the charge that this reserves; the state of the charge."""
        return self.advance(self.evaluate(account_id, limits, now).charge_id, now)

    def now(self, **later: float) -> datetime:
        return database_now(self.connection) + timedelta(**later)

    def one(self, query: LiteralString, *params: object) -> Any:
        """The one value of a query."""
        return fetch_one(self.connection, query, params)[0]

    def balance(self, account: str) -> int:
        return int(self.one("select balance from refill.account where name = %s", account))

    def state(self, charge_id: int | None) -> str:
        return str(self.one("select state::text from refill.charge where charge_id = %s", charge_id))

    def verdicts(self, account: str) -> list[str]:
        rows = self.connection.execute("select verdict from refill.decision where account = %s order by at", (account,))
        return [verdict for (verdict,) in rows]

    def messages(self, account: str) -> list[str]:
        rows = self.connection.execute(
            "select kind from refill.message join refill.account using (account_id)"
            " where name = %s order by created_at",
            (account,),
        )
        return [kind for (kind,) in rows]

    def events(self, account: str) -> list[str]:
        rows = self.connection.execute(
            "select type from refill.event_log join refill.account using (account_id) where name = %s"
            " order by event_log_id",
            (account,),
        )
        return [kind for (kind,) in rows]

    def confirmations(self) -> int:
        """How often the processor really worked on a confirmation; a replayed answer is none."""
        return len([r for r in self.sandbox.requests("/confirm") if not r["replayed"]])

    def assert_books_are_clean(self) -> None:
        assert audit(self.connection) == []
