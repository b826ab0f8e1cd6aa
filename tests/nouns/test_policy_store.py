"""Policies are set, kept with who set them, and take effect at once."""

from __future__ import annotations

import psycopg
import pytest

from jobs import account, card, organisation, policy_store
from jobs.errors import AccountClosed, Malformed, UnknownAccount
from jobs.gateway.stripe import StripeGateway
from jobs.grant import grant
from jobs.ledger.database import Connection
from jobs.money import Money
from jobs.policy import AmountNotOffered, FieldLocked, PolicySettings
from jobs.policy_store import PolicyIncomplete, set_policy
from tests.nouns.asking import forget_watches, is_watched, levels, value
from tests.nouns.conftest import ME


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def test_what_is_given_is_set_and_the_rest_is_left(connection: Connection, camp: str) -> None:
    set_policy(connection, camp, PolicySettings(alert_below=3_000, cap_month=usd(5_000)), ME)
    view = set_policy(connection, camp, PolicySettings(recharge_below=700, enabled=True), ME)
    assert view.own == PolicySettings(alert_below=3_000, recharge_below=700, cap_month=usd(5_000), enabled=True)
    assert (view.effective.amount.value, view.effective.amount.source) == (1_000, "program")
    assert policy_store.show(connection, camp) == view


def test_a_target_takes_the_place_of_an_amount_and_the_other_way_round(connection: Connection, camp: str) -> None:
    set_policy(connection, camp, PolicySettings(amount=2_500), ME)
    assert set_policy(connection, camp, PolicySettings(target=4_000), ME).own.amount is None
    assert set_policy(connection, camp, PolicySettings(amount=500), ME).own.target is None


def test_the_levels_are_where_a_posting_sees_them(connection: Connection, camp: str) -> None:
    set_policy(connection, camp, PolicySettings(alert_below=3_000, recharge_below=700), ME)
    assert levels(connection, camp) == (3_000, 700)


def test_a_change_is_evaluated_at_once_where_the_balance_is_below_the_trigger(
    connection: Connection, camp: str
) -> None:
    grant(connection, camp, 600, "a gift", ME)
    forget_watches(connection)
    set_policy(connection, camp, PolicySettings(amount=500), ME)
    assert not is_watched(connection, camp)
    set_policy(connection, camp, PolicySettings(recharge_below=601), ME)
    assert is_watched(connection, camp)
    forget_watches(connection)
    set_policy(connection, camp, PolicySettings(enabled=True), ME)
    assert is_watched(connection, camp)


def test_an_alert_level_set_above_the_balance_warns_at_once(connection: Connection, camp: str) -> None:
    grant(connection, camp, 2_000, "a gift", ME)
    set_policy(connection, camp, PolicySettings(alert_below=2_001), ME)
    assert value(connection, "select count(*) from refill.message where kind = 'low'") == 1


def test_every_change_is_kept_with_who_made_it_and_what_was_shown(connection: Connection, camp: str) -> None:
    set_policy(connection, camp, PolicySettings(cap_month=usd(5_000)), ME)
    view = set_policy(connection, camp, PolicySettings(enabled=True), "operator:ann")
    set_policy(connection, camp, PolicySettings(enabled=True), "operator:nobody")  # changes nothing
    changes = connection.execute("select actor, before, after from refill.policy_change order by at").fetchall()
    assert [actor for actor, _, _ in changes] == [ME, "operator:ann"]
    _, before, after = changes[1]
    assert before["own"] == {"cap_month": "50.00 USD", "enabled": False}
    assert after["own"] == {"cap_month": "50.00 USD", "enabled": True}
    assert after["effective"]["amount"] == {"value": 1_000, "source": "program"}
    assert after["shown"] == list(view.terms)


def test_a_kept_change_cannot_be_altered(connection: Connection, camp: str) -> None:
    set_policy(connection, camp, PolicySettings(enabled=True), ME)
    with pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("update refill.policy_change set actor = 'somebody else'")


def test_the_terms_say_what_the_holder_agrees_to(connection: Connection, camp: str, gateway: StripeGateway) -> None:
    card.add(connection, gateway, camp, ME, test_card="ok")
    view = set_policy(connection, camp, PolicySettings(cap_day=usd(5_000), enabled=True), ME)
    (agreement,) = view.terms
    assert agreement == (
        "The saved card (visa ending in 4242) is charged whenever the balance falls below 500 points,"
        " for 1,000 points at $10.00 or as many times that as it takes, at most $500.00 per calendar month"
        " and at most $50.00 per day, until recharge is switched off."
    )


def test_the_terms_name_what_stands_in_the_way(connection: Connection, camp: str) -> None:
    view = set_policy(connection, camp, PolicySettings(target=20_000, cap_day=usd(5_000), enabled=True), ME)
    assert "for what fills it up to 20,000 points (at most $200.00)" in view.terms[0]
    assert view.terms[1:] == (
        "No card is saved yet: nothing is charged until one is.",
        "One recharge of the empty account costs $200.00, more than the cap per day: it would be held back.",
    )
    assert set_policy(connection, camp, PolicySettings(enabled=False), ME).terms == (
        "Recharge is off: no card is charged.",
    )


@pytest.mark.parametrize(
    "wanted",
    [
        PolicySettings(recharge_below=1),
        PolicySettings(amount=1_000),
        PolicySettings(target=50_000),
        PolicySettings(cap_month=usd(100)),
        PolicySettings(cap_day=usd(100)),
    ],
)
def test_what_the_tier_locks_stays(connection: Connection, camp: str, wanted: PolicySettings) -> None:
    account.open_account(connection, "run-for-them", "acme", "points", ME, tier="managed")
    with pytest.raises(FieldLocked, match="managed"):
        set_policy(connection, "run-for-them", wanted, ME)
    assert policy_store.show(connection, "run-for-them").own == PolicySettings()


def test_what_the_tier_leaves_open_can_be_set(connection: Connection, camp: str) -> None:
    account.open_account(connection, "run-for-them", "acme", "points", ME, tier="managed")
    view = set_policy(connection, "run-for-them", PolicySettings(alert_below=20_000, enabled=True), ME)
    assert view.terms[0].startswith("The manager's card is charged whenever the balance falls below 5,000 points")


def test_an_amount_that_is_not_offered_is_refused(connection: Connection, camp: str) -> None:
    with pytest.raises(AmountNotOffered):
        set_policy(connection, camp, PolicySettings(amount=77), ME)


@pytest.mark.parametrize(
    "wanted",
    [
        PolicySettings(amount=500, target=500),
        PolicySettings(target=499),
        PolicySettings(cap_month=usd(0)),
        PolicySettings(cap_day=Money(100, "EUR")),
        PolicySettings(recharge_below=2**63 - 1),
    ],
    ids=["amount and target", "target below trigger", "cap of nothing", "other currency", "recharge beyond money"],
)
def test_settings_that_cannot_be_meant_are_refused(connection: Connection, camp: str, wanted: PolicySettings) -> None:
    with pytest.raises(Malformed):
        set_policy(connection, camp, wanted, ME)
    assert policy_store.show(connection, camp).own == PolicySettings()
    assert levels(connection, camp) == (1_000, 500)


def test_recharge_is_not_on_before_it_could_ever_buy(connection: Connection, camp: str) -> None:
    organisation.create(connection, "acme", "mail", None, ME)
    account.open_account(connection, "office", "acme", "mail", ME)
    with pytest.raises(PolicyIncomplete, match="--recharge-below"):
        set_policy(connection, "office", PolicySettings(enabled=True), ME)
    with pytest.raises(PolicyIncomplete, match="--amount or --target"):
        set_policy(connection, "office", PolicySettings(recharge_below=500, enabled=True), ME)
    wanted = PolicySettings(recharge_below=500, amount=1_000, enabled=True)
    assert set_policy(connection, "office", wanted, ME).effective.enabled.value


def test_only_an_open_account_has_a_policy_to_set(connection: Connection, camp: str) -> None:
    with pytest.raises(UnknownAccount):
        set_policy(connection, "nothing", PolicySettings(enabled=True), ME)
    account.close(connection, camp, ME)
    with pytest.raises(AccountClosed):
        set_policy(connection, camp, PolicySettings(enabled=True), ME)
