"""The sweep over messages goes on for as many pages as there are."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from jobs.ledger.database import connect
from tests.support.seed import count, load_examples, open_account
from worker.outside import outside
from worker.runs import MAIL_PAGE, Run, message_sweep

MESSAGES = 2 * MAIL_PAGE + 1


def test_more_messages_than_a_page_are_all_delivered_in_one_sweep(database: str, tmp_path: Path) -> None:
    def never(charge_id: int) -> None:
        raise AssertionError(f"charge {charge_id} is none of a mail's business")

    world = outside(Settings(database_url=database, redis_url="redis://127.0.0.1:1", mail_dir=tmp_path))
    with connect(database) as connection:
        load_examples(connection)
        account_id = open_account(connection, "mail-1", "mail", email="anna@example.com")
        connection.execute(
            "select count(refill.enqueue_message(%s, 'low', now(), '{\"alert_below\": 5}'))"
            " from generate_series(1, %s)",
            (account_id, MESSAGES),
        )
        assert message_sweep(Run(connection, world, never))["sent"] == MESSAGES
        assert count(connection, "select count(*) from refill.message where state = 'pending'") == 0
    assert len(list(tmp_path.glob("*.eml"))) == MESSAGES
