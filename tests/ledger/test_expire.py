"""The expiry sweep: dead credit becomes breakage, in pages, whatever one account does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from jobs.expire import PAGE_TIME_S, Expired, Pace, sweep
from jobs.ledger.database import Connection, connect, fetch_one
from tests.support.seed import count, grant, load_examples, open_account, spend

DEATH = datetime(2031, 1, 1, tzinfo=UTC)
BEFORE = DEATH - timedelta(microseconds=1)


@pytest.fixture
def ledger(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        load_examples(connection)
        yield connection


def dying_accounts(ledger: Connection, number: int) -> list[int]:
    ids = [open_account(ledger, f"mail-{place}", "mail") for place in range(number)]
    for account_id in ids:
        grant(ledger, account_id, 100, DEATH.isoformat())
    return ids


def balance(ledger: Connection, account_id: int) -> int:
    return count(ledger, "select balance from refill.account where account_id = %s", [account_id])


def test_a_lot_dies_at_its_expiry_and_not_before(ledger: Connection) -> None:
    [account_id] = dying_accounts(ledger, 1)
    assert sweep(ledger, now=BEFORE) == Expired()
    assert balance(ledger, account_id) == 100
    assert sweep(ledger, now=DEATH) == Expired(lots=1, credits=100, accounts=1)
    assert balance(ledger, account_id) == 0


def test_what_was_left_of_each_lot_goes_to_breakage_as_one_entry(ledger: Connection) -> None:
    account_id = open_account(ledger, "mail-1", "mail")
    lots = [grant(ledger, account_id, amount, DEATH.isoformat()) for amount in (100, 50)]
    spend(ledger, "mail-1", 30, "e1")
    sweep(ledger, now=DEATH)
    rows = ledger.execute(
        "select lot_id, amount, refill.own_side_name(to_side) from refill.entry where kind = 'expiry' order by lot_id"
    ).fetchall()
    assert rows == [(lots[0], 70, "breakage"), (lots[1], 50, "breakage")]


def test_a_second_sweep_finds_nothing(ledger: Connection) -> None:
    dying_accounts(ledger, 3)
    sweep(ledger, now=DEATH)
    assert sweep(ledger, now=DEATH) == Expired()


def test_every_page_is_a_transaction_of_its_own(ledger: Connection) -> None:
    dying_accounts(ledger, 5)
    assert sweep(ledger, DEATH, _pages_of(2)) == Expired(lots=5, credits=500, accounts=5)
    assert count(ledger, "select count(distinct xmin::text) from refill.account") == 3


def test_the_lots_of_one_account_may_lie_on_several_pages(ledger: Connection) -> None:
    account_id = open_account(ledger, "mail-1", "mail")
    for _ in range(5):
        grant(ledger, account_id, 10, DEATH.isoformat())
    grant(ledger, account_id, 7, (DEATH + timedelta(days=1)).isoformat())
    assert sweep(ledger, DEATH, _pages_of(2)).lots == 5
    rows = ledger.execute("select from_balance from refill.entry where kind = 'expiry' order by entry_id").fetchall()
    assert [balance_after for (balance_after,) in rows] == [47, 37, 27, 17, 7]
    assert count(ledger, "select expires_next = %s from refill.account", [DEATH + timedelta(days=1)]) == 1


def test_a_page_grows_and_shrinks_to_what_fits_into_its_time() -> None:
    pace = Pace(size=100, least=10, most=300)
    sizes = []
    for seconds in (PAGE_TIME_S, PAGE_TIME_S / 100, PAGE_TIME_S / 100, PAGE_TIME_S * 3, PAGE_TIME_S * 1000):
        pace.adapt(pace.size, seconds)
        sizes.append(pace.size)
    assert sizes == [100, 200, 300, 100, 10]


def _pages_of(lots: int) -> Pace:
    return Pace(size=lots, least=lots, most=lots)


def test_credit_of_a_silent_account_dies_of_inactivity(ledger: Connection) -> None:
    account_id = open_account(ledger, "points-1")
    bought = datetime(2030, 1, 1, tzinfo=UTC)
    grant(ledger, account_id, 500, now=bought)
    assert sweep(ledger, now=bought + timedelta(days=365, seconds=-1)) == Expired()
    assert sweep(ledger, now=bought + timedelta(days=365)) == Expired(lots=1, credits=500, accounts=1)
    assert balance(ledger, account_id) == 0


def test_credit_that_never_expires_is_left_alone(ledger: Connection) -> None:
    grant(ledger, open_account(ledger, "sms-1", "sms"), 10)
    assert sweep(ledger, now=datetime(2999, 1, 1, tzinfo=UTC)) == Expired()


def test_without_a_time_the_database_decides(ledger: Connection) -> None:
    account_id = open_account(ledger, "mail-1", "mail")
    grant(ledger, account_id, 100, "2020-06-01", now=datetime(2020, 1, 1, tzinfo=UTC))
    assert sweep(ledger).credits == 100
    at = fetch_one(ledger, "select at from refill.entry where kind = 'expiry'")[0]
    assert datetime.now(UTC) - at < timedelta(minutes=1)


@pytest.mark.parametrize("size", [1, 3, 10])
def test_an_account_that_cannot_be_booked_holds_back_no_other(ledger: Connection, size: int) -> None:
    ids = dying_accounts(ledger, 6)
    for account_id in (ids[1], ids[4]):
        grant(ledger, account_id, 50, DEATH.isoformat())
        # A balance that is less than its lots cannot go below zero: the books of this account are broken.
        ledger.execute("update refill.account set balance = 1 where account_id = %s", (account_id,))
    assert sweep(ledger, DEATH, _pages_of(size)) == Expired(lots=4, credits=400, accounts=4, failed=2)
    assert [balance(ledger, account_id) for account_id in ids] == [0, 1, 0, 0, 1, 0]


def test_a_silent_account_that_cannot_be_booked_holds_back_no_other(ledger: Connection) -> None:
    ids = [open_account(ledger, f"points-{number}") for number in range(3)]
    for account_id in ids:
        grant(ledger, account_id, 100, now=DEATH - timedelta(days=365))
    ledger.execute("update refill.account set balance = 1 where account_id = %s", (ids[0],))
    assert sweep(ledger, DEATH) == Expired(lots=2, credits=200, accounts=2, failed=1)


def test_an_account_that_somebody_holds_is_left_to_them_without_waiting(ledger: Connection, database: str) -> None:
    held, free = dying_accounts(ledger, 2)
    ledger.execute("set lock_timeout = '10s'")  # a sweep that waits fails
    with connect(database) as other, other.transaction():
        other.execute("select refill.lock_accounts(%s)", ([held],))
        assert sweep(ledger, DEATH) == Expired(lots=1, credits=100, accounts=1, busy=1)
    assert (balance(ledger, held), balance(ledger, free)) == (100, 0)
    assert sweep(ledger, DEATH).lots == 1


def test_what_a_posting_booked_since_the_page_was_read_is_not_booked_twice(ledger: Connection) -> None:
    [account_id] = dying_accounts(ledger, 1)
    [(lot_id,)] = ledger.execute("select lot_id from refill.due_lots('-infinity', 0, %s, 10)", (DEATH,)).fetchall()
    spend(ledger, "mail-0", 1, "e1", now=DEATH)
    lots = count(ledger, "select lots from refill.expire_lots(array[%s]::bigint[], %s)", [lot_id, DEATH])
    assert (lots, balance(ledger, account_id)) == (0, 0)
    assert count(ledger, "select count(*) from refill.entry where kind = 'expiry'") == 1


# Silence: when to look at an account is a lower bound that follows the account without costing a spend anything.

IDLE = timedelta(days=365)  # of the program points


def _look_at(ledger: Connection) -> list[datetime]:
    return [at for (at,) in ledger.execute("select look_at from refill.silence").fetchall()]


def test_a_spend_does_not_touch_when_a_silent_account_is_looked_at(ledger: Connection) -> None:
    bought = DEATH - IDLE
    grant(ledger, open_account(ledger, "points-1"), 500, now=bought)
    spend(ledger, "points-1", 1, "e1", now=bought + timedelta(days=100))
    assert _look_at(ledger) == [DEATH]


def test_an_account_that_was_not_silent_is_looked_at_again_when_it_could_be(ledger: Connection) -> None:
    bought = DEATH - IDLE
    grant(ledger, open_account(ledger, "points-1"), 500, now=bought)
    spend(ledger, "points-1", 1, "e1", now=bought + timedelta(days=100))
    assert sweep(ledger, DEATH) == Expired()
    assert _look_at(ledger) == [DEATH + timedelta(days=100)]
    assert sweep(ledger, DEATH + timedelta(days=100)).credits == 499


def test_an_account_without_credit_is_not_looked_at_until_it_has_some(ledger: Connection) -> None:
    bought = DEATH - IDLE
    account_id = open_account(ledger, "points-1")
    grant(ledger, account_id, 500, now=bought)
    sweep(ledger, DEATH)
    assert _look_at(ledger) == []
    grant(ledger, account_id, 500, now=DEATH)
    assert _look_at(ledger) == [DEATH + IDLE]


def test_a_moment_that_moves_nearer_is_looked_at_in_time(ledger: Connection) -> None:
    bought = DEATH - IDLE
    grant(ledger, open_account(ledger, "points-1"), 500, now=bought)
    ledger.execute("update refill.program set expiry_days = 30 where name = 'points'")
    spend(ledger, "points-1", 1, "e1", now=bought + timedelta(days=1))
    assert sweep(ledger, bought + timedelta(days=31)).credits == 499


def test_a_silent_account_with_more_lots_than_a_page_is_booked_in_several(ledger: Connection) -> None:
    account_id = open_account(ledger, "points-1")
    for _ in range(5):
        grant(ledger, account_id, 10, now=DEATH - IDLE)
    assert sweep(ledger, DEATH, _pages_of(2)) == Expired(lots=5, credits=50, accounts=3)
    assert (balance(ledger, account_id), _look_at(ledger)) == (0, [])


# What a fall sets off is told for all accounts of a page together, and is what it is for one alone.


def test_every_account_of_a_page_is_told_what_it_lost_and_where_it_stands(ledger: Connection) -> None:
    ids = dying_accounts(ledger, 3)
    grant(ledger, ids[1], 40)
    ledger.execute("update refill.account set alert_below = 50, recharge_below = 45, email = 'a@example.com'")
    ledger.execute("update refill.account set closed_at = %s where account_id = %s", (DEATH, ids[2]))
    ledger.execute("delete from refill.event_log")
    sweep(ledger, DEATH)
    events = ledger.execute("select account_id, type from refill.event_log order by type, account_id").fetchall()
    assert events == [
        (ids[0], "balance.depleted"),
        (ids[1], "balance.low"),
        *((account_id, "credit.expired") for account_id in ids),
    ]
    messages = ledger.execute("select account_id, kind, state from refill.message order by 1").fetchall()
    assert messages == [(ids[0], "depleted", "pending"), (ids[1], "low", "pending")]
    watched = ledger.execute("select account_id, event_id from refill.watch order by 1").fetchall()
    assert watched == [(ids[0], None), (ids[1], None)]


def test_an_expiry_of_very_many_accounts_pokes_for_some_and_leaves_the_others_to_the_sweeps(
    ledger: Connection, database: str
) -> None:
    dying_accounts(ledger, 130)
    ledger.execute("update refill.account set recharge_below = 45, email = 'a@example.com'")
    ledger.execute("delete from refill.watch")
    with connect(database) as listener:
        listener.execute("listen refill_poke")
        sweep(ledger, DEATH, _pages_of(1000))
        listener.execute("select 1")
        pokes = [poke.payload.split()[0] for poke in listener.notifies(timeout=0)]
    assert {kind: pokes.count(kind) for kind in pokes} == {"publish": 1, "deliver": 100, "evaluate": 100}
    assert count(ledger, "select count(*) from refill.message where state = 'pending'") == 130
    assert count(ledger, "select count(*) from refill.watch") == 130
