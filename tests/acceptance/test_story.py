"""The whole spine through real processes: spend in, a level crossed, mail out, a card charged once, all of it told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.story import Refill
from tests.support.processes import Processes
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def refill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refill]:
    """One refill for the tests of this module, each with accounts of its own."""
    processes = Processes()
    refill = Refill(processes, tmp_path_factory.mktemp("story") / "data")
    refill.start()
    yield refill
    assert refill.command("audit")
    assert refill.up.stop() == 0
    processes.close()


def recharged(refill: Refill, account: str) -> tuple[object, ...] | None:
    rows = refill.rows(
        "select state, credits, amount, currency, invoice_number from refill.charge_history where account = %s", account
    )
    return rows[0] if rows and rows[0][0] == "succeeded" else None


def test_a_spend_lands_warns_recharges_and_is_explained(refill: Refill) -> None:
    refill.account("anna", organisation="story")
    refill.send("anna", 800, "order-1", ref="job 7", memo="postcards", actor="bert")

    assert refill.outcome("order-1") == "accepted"
    charge = eventually(lambda: recharged(refill, "anna"), timeout=30)
    assert charge is not None
    assert charge[1:4] == (1_000, 1_000, "USD")
    assert str(charge[4]).startswith("POINTS-")

    mails = eventually(lambda: len(refill.mails()) == 2 and refill.mails(), timeout=30)
    assert isinstance(mails, list)
    assert {mail["To"] for mail in mails} == {"anna@example.com"}
    assert len({mail["Message-ID"] for mail in mails}) == 2

    assert refill.one("select balance from refill.balance where account = 'anna'") == 1_200
    kinds = [row["kind"] for row in refill.command("history", "anna")]
    assert kinds == ["promotion", "spend", "recharge"]
    told = str(refill.command("explain", "anna"))
    assert str(charge[4]) in told
    assert "order-1" in told


def test_every_step_is_in_the_log_with_ids_that_tie_it_together(refill: Refill) -> None:
    refill.account("logan", organisation="logged", card="ok:logan")
    refill.send("logan", 800, "logged-1")
    settled = refill.up.wait_for_event("charge.settled", account="logan")

    reserved = refill.up.wait_for_event("charge.reserved", account="logan")
    assert reserved["charge_id"] == settled["charge_id"]
    confirmed = refill.up.wait_for_event("attempt.started", charge_id=settled["charge_id"])
    assert confirmed["attempt_id"] == reserved["attempt_id"]
    sent = refill.up.wait_for_event("message.sent", message_id=settled["message_id"])
    assert sent["account"] == "logan"
    assert sent["charge_id"] == settled["charge_id"]
    warned = refill.up.wait_for_event("message.sent", kind="low", account="logan")
    assert warned["event_id"] == reserved["event_id"] == "logged-1"
    assert "logan@example.com" not in refill.up.output
    assert "sk_test" not in refill.up.output


def test_the_events_are_published_in_the_order_of_seq(refill: Refill) -> None:
    import redis

    refill.account("eve", organisation="events", card="ok:eve")
    refill.send("eve", 800, "events-1")
    eventually(
        lambda: refill.one("select 1 from refill.event where account = 'eve' and type = 'recharge.succeeded'"), 30
    )
    newest = refill.one("select max(seq) from refill.event")
    with redis.Redis.from_url(refill.environment["REDIS_URL"], decode_responses=True) as client:
        eventually(lambda: client.xinfo_stream("refill:events")["last-generated-id"] >= f"{newest}-0", 30)
        seqs = [int(entry[0].split("-")[0]) for entry in client.xrange("refill:events")]
    assert seqs == list(range(1, len(seqs) + 1))


def test_rubbish_is_set_aside_and_blocks_nobody(refill: Refill) -> None:
    refill.account("rudi", organisation="rubbish", card="ok:rudi")
    refill.send("rudi", "12.5", "bad-1")
    refill.send("rudi", -5, "bad-2")
    refill.send("rudi", 10**30, "bad-3")
    refill.send("rudi", 10, "x" * 65)
    refill.send("nobody", 10, "lost-1")
    refill.send("rudi", 10, "good-1")

    assert refill.outcome("good-1") == "accepted"
    assert refill.outcome("lost-1") == "unknown_account"
    assert refill.one("select count(*) from refill.quarantine") == 4


def test_the_same_event_by_stream_by_sql_and_by_command_counts_once(refill: Refill) -> None:
    refill.account("theo", organisation="thrice", card="ok:theo")
    refill.send("theo", 100, "thrice-1")
    assert refill.outcome("thrice-1") == "accepted"

    assert refill.one("select outcome from refill.spend('theo', 100, 'thrice-1')") == "accepted"
    refill.command("spend", "theo", "100", "--id", "thrice-1")
    assert refill.one("select outcome from refill.spend('theo', 101, 'thrice-1')") == "conflict"
    assert refill.one("select balance from refill.balance where account = 'theo'") == 900


def test_mail_is_written_once_under_its_own_id(refill: Refill) -> None:
    refill.account("mia", organisation="mails", card="ok:mia")
    refill.send("mia", 800, "mia-1")
    folder = Path(refill.environment["MAIL_DIR"])

    def sent() -> list[str]:
        rows = refill.rows(
            "select m.message_id::text from refill.message m join refill.account a using (account_id)"
            " where a.name = 'mia' and m.state = 'sent'"
        )
        return [message_id for (message_id,) in rows]

    eventually(lambda: len(sent()) == 2, 30)
    assert all((folder / f"{message_id}.eml").exists() for message_id in sent())
