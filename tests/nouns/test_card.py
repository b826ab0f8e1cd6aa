"""Cards are saved at the processor, replaced, blocked and unblocked."""

from __future__ import annotations

import pytest

from jobs import account, card
from jobs.card import CardNever, UnknownCard
from jobs.errors import AccountClosed, Malformed, UnknownAccount
from jobs.gateway import stripe
from jobs.gateway.stripe import StripeGateway
from jobs.grant import grant
from jobs.ledger.database import Connection
from tests.nouns.asking import forget_watches, is_watched, value
from tests.nouns.conftest import ME


def stop(connection: Connection, fingerprint: str, kind: str) -> None:
    """As a decline leaves it."""
    connection.execute(
        "insert into refill.card_state (fingerprint, stop, stop_reason, stopped_at, consecutive_declines)"
        " values (%s, %s, 'declined as such', now(), 3)",
        (fingerprint, kind),
    )


def test_a_saved_card_is_the_one_in_use(connection: Connection, camp: str, gateway: StripeGateway) -> None:
    added = card.add(connection, gateway, camp, ME, test_card="ok")
    assert added == card.in_use(connection, camp)
    assert (added.brand, added.last4, added.added_by) == ("visa", "4242", ME)


def test_a_new_card_takes_the_place_of_the_old(connection: Connection, camp: str, gateway: StripeGateway) -> None:
    old = card.add(connection, gateway, camp, ME, test_card="ok")
    new = card.add(connection, gateway, camp, ME, test_card="declined")
    first, second = card.list_cards(connection, camp)
    assert first == new
    assert first.removed_at is None
    assert second.fingerprint == old.fingerprint
    assert second.removed_at is not None


def test_a_payment_method_that_is_saved_again_is_the_same_card(
    connection: Connection, camp: str, gateway: StripeGateway
) -> None:
    saved = card.add(connection, gateway, camp, ME, test_card="ok")
    card.add(connection, gateway, camp, ME, test_card="declined")
    again = card.add(connection, gateway, camp, ME, payment_method=saved.payment_method)
    assert again == saved
    assert len(card.list_cards(connection, camp)) == 2


def test_a_saved_card_puts_an_account_below_its_trigger_before_the_sweep(
    connection: Connection, camp: str, gateway: StripeGateway
) -> None:
    forget_watches(connection)
    card.add(connection, gateway, camp, ME, test_card="ok")
    assert is_watched(connection, camp)


def test_an_account_above_its_trigger_is_left_alone(connection: Connection, camp: str, gateway: StripeGateway) -> None:
    grant(connection, camp, 5_000, "a gift", ME)
    forget_watches(connection)
    card.add(connection, gateway, camp, ME, test_card="ok")
    assert not is_watched(connection, camp)


def test_the_managers_card_puts_the_accounts_that_it_pays_for_before_the_sweep(
    connection: Connection, camp: str, gateway: StripeGateway
) -> None:
    account.open_account(connection, "of-all", "acme", "points", ME, is_system=True)
    account.open_account(connection, "run-for-them", "acme", "points", ME, tier="managed")
    forget_watches(connection)
    card.add(connection, gateway, "of-all", ME, test_card="ok")
    assert is_watched(connection, "run-for-them")


def test_a_card_that_the_processor_does_not_know_changes_nothing(
    connection: Connection, camp: str, gateway: StripeGateway
) -> None:
    kept = card.add(connection, gateway, camp, ME, test_card="ok")
    with pytest.raises(stripe.TestCardUnavailable):
        card.add(connection, gateway, camp, ME, test_card="rubbish")
    with pytest.raises(stripe.UnknownPaymentMethod):
        card.add(connection, gateway, camp, ME, payment_method="pm_nothing")
    assert card.in_use(connection, camp) == kept


def test_one_card_is_named_for_an_open_account(connection: Connection, camp: str, gateway: StripeGateway) -> None:
    with pytest.raises(Malformed):
        card.add(connection, gateway, camp, ME)
    with pytest.raises(Malformed):
        card.add(connection, gateway, camp, ME, test_card="ok", payment_method="pm_1")
    with pytest.raises(UnknownAccount):
        card.add(connection, gateway, "nothing", ME, test_card="ok")
    account.close(connection, camp, ME)
    with pytest.raises(AccountClosed):
        card.add(connection, gateway, camp, ME, test_card="ok")


def test_a_block_stops_a_card_on_all_accounts_until_it_is_taken_back(
    connection: Connection, camp: str, gateway: StripeGateway
) -> None:
    account.open_account(connection, "camp-2", "acme", "points", ME)
    fingerprint = card.add(connection, gateway, camp, ME, test_card="ok").fingerprint
    assert card.add(connection, gateway, "camp-2", ME, test_card="ok").fingerprint == fingerprint
    blocked = card.block(connection, fingerprint, ME)
    assert (blocked.accounts, blocked.stop, blocked.stop_reason) == (2, "operator", f"blocked by {ME}")
    assert card.block(connection, fingerprint, "operator:another") == blocked
    forget_watches(connection)
    assert card.unblock(connection, fingerprint, ME).stop is None
    assert is_watched(connection, camp)
    assert is_watched(connection, "camp-2")


@pytest.mark.parametrize("kind", ["breaker", "declined", "needs_customer", "new_details"])
def test_an_operator_takes_back_what_declines_have_stopped(
    connection: Connection, camp: str, gateway: StripeGateway, kind: str
) -> None:
    fingerprint = card.add(connection, gateway, camp, ME, test_card="ok").fingerprint
    stop(connection, fingerprint, kind)
    card.unblock(connection, fingerprint, ME)
    assert value(connection, "select consecutive_declines from refill.card_state where stop is null") == 0


def test_nobody_takes_back_what_the_card_network_forbids(
    connection: Connection, camp: str, gateway: StripeGateway
) -> None:
    fingerprint = card.add(connection, gateway, camp, ME, test_card="ok").fingerprint
    stop(connection, fingerprint, "never")
    with pytest.raises(CardNever, match="declined as such"):
        card.unblock(connection, fingerprint, ME)
    assert card.block(connection, fingerprint, ME).stop == "never"


def test_new_details_end_the_wait_for_them(connection: Connection, camp: str, gateway: StripeGateway) -> None:
    fingerprint = card.add(connection, gateway, camp, ME, test_card="ok").fingerprint
    stop(connection, fingerprint, "new_details")
    card.add(connection, gateway, camp, ME, test_card="ok")
    assert card.find_state(connection, fingerprint).stop == "new_details"
    connection.execute("update refill.card set exp_year = 2020")  # what was known until now
    card.add(connection, gateway, camp, ME, test_card="ok")
    assert card.find_state(connection, fingerprint).stop is None


def test_a_fingerprint_that_nobody_has_seen_is_refused(connection: Connection, camp: str) -> None:
    for act in (card.block, card.unblock):
        with pytest.raises(UnknownCard):
            act(connection, "nothing", ME)
