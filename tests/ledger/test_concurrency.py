"""Several connections at once: no event twice, no credit twice, no circle of waiting, whatever the order."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from jobs.ledger.database import Connection, connect
from tests.ledger.books import Answer, Books, Spend, post
from tests.support.waiting import eventually

THREADS = 8
CALL = "select outcome, balance from refill.spend(%s, %s::bigint, %s)"


class Crowd:
    """Threads with a connection each, that all begin at the same moment."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = ThreadPoolExecutor(THREADS)

    def all_at_once(self, act: Callable[[Connection, int], Sequence[Answer]]) -> list[Sequence[Answer]]:
        """What each thread's act returned."""
        start = threading.Barrier(THREADS)

        def run(place: int) -> Sequence[Answer]:
            with connect(self._url, application=f"test {place}") as connection:
                start.wait(timeout=30)
                return act(connection, place)

        return [answer.result(timeout=60) for answer in [self._pool.submit(run, n) for n in range(THREADS)]]

    def start(self, act: Callable[[], object]) -> Future[object]:
        """Something that will have to wait."""
        return self._pool.submit(act)

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def crowd(ledger_url: str) -> Iterator[Crowd]:
    crowd = Crowd(ledger_url)
    yield crowd
    crowd.close()


def _until_posted(connection: Connection, spends: Sequence[Spend]) -> list[Answer]:
    """Posts as the intake does: another transaction that was first with an id is a reason to try again."""
    again = Retrying(retry=retry_if_exception_type(psycopg.errors.UniqueViolation), stop=stop_after_attempt(100))
    return again(post, connection, spends)


def _outcomes(answers: Sequence[Sequence[Answer]]) -> Counter[str]:
    return Counter(answer.outcome for batch in answers for answer in batch)


def _is_waiting(connection: Connection) -> bool:
    found = connection.execute(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    return found.rowcount > 0


def test_one_event_sent_by_all_at_once_is_posted_once(books: Books, crowd: Crowd) -> None:
    books.open("a")
    books.grant("a", 100)
    answers = crowd.all_at_once(lambda connection, _: post(connection, [Spend("e1", "a", 10)]))
    assert {tuple(batch) for batch in answers} == {(Answer("accepted", 90, 10, 100, 0),)}
    assert books.entries("a") == [(1, 10, 90)]


def test_one_id_on_as_many_accounts_is_posted_on_one_of_them(books: Books, crowd: Crowd) -> None:
    for place in range(THREADS):
        books.open(f"a{place}")
        books.grant(f"a{place}", 100)
    answers = crowd.all_at_once(lambda connection, n: _until_posted(connection, [Spend("e1", f"a{n}", 10)]))
    assert _outcomes(answers) == {"accepted": 1, "conflict": THREADS - 1}
    assert sorted(books.balance(f"a{n}") for n in range(THREADS)) == [90] + [100] * (THREADS - 1)


def test_one_event_of_an_unknown_account_is_kept_once(books: Books, crowd: Crowd) -> None:
    answers = crowd.all_at_once(lambda connection, _: _until_posted(connection, [Spend("e1", "nobody", 10)]))
    assert _outcomes(answers) == {"unknown_account": THREADS}
    assert books.value("select count(*) from refill.spend_event") == 1


def test_the_last_credit_is_spent_once(books: Books, crowd: Crowd) -> None:
    books.open("a")
    books.grant("a", 25)
    answers = crowd.all_at_once(lambda connection, n: post(connection, [Spend(f"e{n}", "a", 10)]))
    assert _outcomes(answers) == {"accepted": 2, "insufficient_credit": THREADS - 2}
    assert books.balance("a") == 5


@pytest.mark.parametrize("known", [True, False], ids=["known accounts", "unknown accounts"])
def test_batches_in_opposite_orders_do_not_wait_in_a_circle(books: Books, crowd: Crowd, known: bool) -> None:
    names = [f"a{n}" for n in range(50)]
    for name in names if known else []:
        books.open(name)
    if known:
        books.grants(names, [1_000] * len(names))
    batch = [Spend(f"e{n}", name, 1) for n, name in enumerate(names)]

    def both_ways(connection: Connection, place: int) -> Sequence[Answer]:
        return [
            answer
            for turn in range(10)
            for answer in _until_posted(
                connection, [s._replace(event_id=f"{turn} {s.event_id}") for s in batch[:: 1 if place % 2 else -1]]
            )
        ]

    answers = crowd.all_at_once(both_ways)
    assert _outcomes(answers) == {"accepted" if known else "unknown_account": THREADS * 10 * len(names)}
    assert books.value("select count(*) from refill.spend_event") == 10 * len(names)


def test_the_same_ids_on_other_accounts_in_another_order_do_not_wait_in_a_circle(books: Books, crowd: Crowd) -> None:
    names = [f"a{n}" for n in range(THREADS)]
    for name in names:
        books.open(name)
    books.grants(names, [1_000] * THREADS)
    ids = [f"e{n}" for n in range(200)]

    def own_account(connection: Connection, place: int) -> Sequence[Answer]:
        return _until_posted(connection, [Spend(i, names[place], 1) for i in ids[:: 1 if place % 2 else -1]])

    answers = crowd.all_at_once(own_account)
    assert _outcomes(answers) == {"accepted": 200, "conflict": 200 * (THREADS - 1)}


def test_a_grant_beside_spends_is_neither_lost_nor_counted_twice(books: Books, crowd: Crowd) -> None:
    account_id = books.open("a")
    books.grant("a", 100)

    def grant_or_spend(connection: Connection, place: int) -> Sequence[Answer]:
        if place % 2:
            return [a for turn in range(20) for a in post(connection, [Spend(f"{place} {turn}", "a", 3)])]
        for _ in range(20):
            connection.execute(
                "select refill.post_grants(array[%s::bigint], '{2}', '{infinity}', '{0}', 'promotion',"
                " null, null, null, 'me')",
                (account_id,),
            )
        return []

    accepted = _outcomes(crowd.all_at_once(grant_or_spend))["accepted"]
    assert books.balance("a") == 100 + THREADS // 2 * 20 * 2 - accepted * 3


def test_random_traffic_over_few_accounts_conserves_every_credit(books: Books, crowd: Crowd) -> None:
    names = ["a", "b", "c"]
    for name in names:
        books.open(name)
        for _ in range(3):
            books.grant(name, 400)

    def traffic(connection: Connection, place: int) -> Sequence[Answer]:
        dice = random.Random(place)
        answers: list[Answer] = []
        for _ in range(15):
            ids = [dice.randrange(150) for _ in range(20)]
            answers += _until_posted(connection, [Spend(f"e{n}", names[n % 3], 1 + n % 60) for n in ids])
        return answers

    outcomes = _outcomes(crowd.all_at_once(traffic))
    assert set(outcomes) == {"accepted", "insufficient_credit"}
    spent = books.value("select sum(amount) from refill.spend_event where outcome = 'accepted'")
    assert sum(books.balance(name) for name in names) == 3 * 3 * 400 - spent


def test_a_spend_waits_for_upstream_s_transaction_and_then_sees_what_it_left(
    books: Books, crowd: Crowd, ledger_url: str
) -> None:
    books.open("a")
    books.grant("a", 10)
    with connect(ledger_url) as upstream, connect(ledger_url) as other:
        with upstream.transaction():
            upstream.execute(CALL, ("a", 7, "e1"))
            second = crowd.start(lambda: other.execute(CALL, ("a", 7, "e2")).fetchall())
            eventually(lambda: _is_waiting(books.connection))
        assert second.result(timeout=30) == [("insufficient_credit", 3)]


def test_a_spend_that_waited_for_a_rollback_gets_the_credit(books: Books, crowd: Crowd, ledger_url: str) -> None:
    books.open("a")
    books.grant("a", 10)
    with connect(ledger_url) as upstream, connect(ledger_url) as other:
        with upstream.transaction(force_rollback=True):
            upstream.execute(CALL, ("a", 7, "e1"))
            second = crowd.start(lambda: other.execute(CALL, ("a", 7, "e1")).fetchall())
            eventually(lambda: _is_waiting(books.connection))
        assert second.result(timeout=30) == [("accepted", 3)]


@pytest.mark.parametrize("isolation", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_an_old_snapshot_is_a_serialization_failure_and_never_a_wrong_answer(
    books: Books, ledger_url: str, isolation: psycopg.IsolationLevel
) -> None:
    books.open("a")
    books.grant("a", 10)
    with connect(ledger_url) as upstream:
        upstream.isolation_level = isolation
        with upstream.transaction(force_rollback=True):
            upstream.execute("select 1 from refill.account")
            books.spend("a", 7, now=None)
            with pytest.raises(psycopg.errors.SerializationFailure):
                upstream.execute(CALL, ("a", 7, "e9"))
    assert books.balance("a") == 3


def test_locking_accounts_locks_all_of_them(books: Books, ledger_url: str) -> None:
    ids = [books.open(name) for name in ("a", "b", "c")]
    with connect(ledger_url) as holder, holder.transaction():
        holder.execute("select refill.lock_accounts(%s::bigint[])", (ids[:2],))
        free = books.rows("select account_id from refill.account for no key update skip locked")
    assert free == [(ids[2],)]


def test_a_posting_is_dated_after_the_one_that_it_waited_for(books: Books, crowd: Crowd, ledger_url: str) -> None:
    books.open("a")
    books.grant("a", 10)
    with connect(ledger_url) as first, connect(ledger_url) as second:
        with first.transaction():
            first.execute("select refill.lock_accounts(%s::bigint[])", ([books.account_id("a")],))
            waiting = crowd.start(lambda: second.execute(CALL, ("a", 1, "e2")).fetchall())
            eventually(lambda: _is_waiting(books.connection))
            released_at = first.execute("select clock_timestamp()").fetchone()
        waiting.result(timeout=30)
    assert books.rows("select at >= %s from refill.entry where event_id = 'e2'", released_at) == [(True,)]


def test_ids_are_taken_in_one_order_so_that_batches_cannot_wait_in_a_circle(
    books: Books, crowd: Crowd, ledger_url: str
) -> None:
    batch = [Spend(f"e{n:02}", "nobody", 1) for n in range(40)]
    random.Random(1).shuffle(batch)
    with connect(ledger_url) as holder, connect(ledger_url) as waiter, connect(ledger_url) as passer:
        passer.execute("set lock_timeout = '2s'")
        with holder.transaction():
            post(holder, [Spend("e20", "nobody", 1)])
            waiting = crowd.start(lambda: _until_posted(waiter, batch))
            eventually(lambda: _is_waiting(books.connection))
            above = [Spend(f"e{n:02}", "nobody", 1) for n in range(21, 40)]
            assert {answer.outcome for answer in post(passer, above)} == {"unknown_account"}
            with pytest.raises(psycopg.errors.LockNotAvailable):
                post(passer, [Spend("e00", "nobody", 1)])
        waiting.result(timeout=30)


def test_an_account_opened_while_a_batch_waited_is_not_touched_without_its_lock(
    books: Books, crowd: Crowd, ledger_url: str
) -> None:
    books.open("a")
    books.grant("a", 100)
    with connect(ledger_url) as holder, connect(ledger_url) as waiter, connect(ledger_url) as upstream:
        with holder.transaction():
            holder.execute(CALL, ("a", 1, "e1"))
            batch = [Spend("e2", "a", 1), Spend("e3", "new", 10)]
            waiting = crowd.start(lambda: [answer.outcome for answer in post(waiter, batch)])
            eventually(lambda: _is_waiting(books.connection))
            books.open("new")
            books.grant("new", 100)
            upstream.execute("begin")
            upstream.execute(CALL, ("new", 95, "e4"))
        eventually(lambda: _is_waiting(books.connection))
        upstream.execute("commit")
        assert waiting.result(timeout=30) == ["accepted", "insufficient_credit"]
    assert books.balance("new") == 5
