"""Messages reach a real mail server at least once; a bad one never holds back another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.ledger.database import Connection, connect, fetch_one
from jobs.mailer import DirectoryMailer, Mailer, SmtpMailer
from jobs.notify import BACK_OFF, CLAIM, Post, deliver, due_messages
from tests.support.mail_server import MailServer, free_port
from tests.support.seed import grant, load_examples, open_account, spend

NOW = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)
SENDER = "refill@example.com"
KINDS = ("low", "depleted", "recharge_succeeded", "declined", "paused")
DATA: dict[str, Any] = {
    "balance": 123450,
    "alert_below": 200000,
    "credits": 100000,
    "amount_minor": 100000,
    "currency": "USD",
    "invoice_number": "MAIL-2030-000007",
    "charge_id": 41,
    "reason": "the card has no money left",
    "next_attempt_at": "2030-05-02T12:00:00+00:00",
    "brand": "visa",
    "last4": "4242",
}


@pytest.fixture
def ledger(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        load_examples(connection)
        yield connection


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer().running() as running:
        yield running


def post(mailer: Mailer) -> Post:
    return Post(mailer, SENDER)


def over_smtp(url: str) -> Post:
    return post(SmtpMailer(url, timeout_s=5, first_wait_s=0.001))


def enqueue(ledger: Connection, kind: str = "low", account: str = "office-1", data: dict[str, Any] = DATA) -> str:
    """A message of the account, which is opened for it; its id."""
    row = ledger.execute("select account_id from refill.account where name = %s", (account,)).fetchone()
    account_id = open_account(ledger, account, "mail", email="anna@example.com") if row is None else row[0]
    told = json.dumps(data)
    return str(
        fetch_one(ledger, "select refill.enqueue_message(%s, %s, %s, %s::jsonb)", (account_id, kind, NOW, told))[0]
    )


def state(ledger: Connection, message_id: str) -> tuple[str, int]:
    return cast(
        "tuple[str, int]",
        fetch_one(ledger, "select state, attempts from refill.message where message_id = %s", (message_id,)),
    )


def next_at(ledger: Connection, message_id: str) -> datetime:
    return cast(
        datetime, fetch_one(ledger, "select next_at from refill.message where message_id = %s", (message_id,))[0]
    )


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def test_a_low_balance_becomes_a_mail_with_the_exact_numbers(ledger: Connection, server: MailServer) -> None:
    account_id = open_account(ledger, "office-1", "mail", email="anna@example.com", alert_below=5000)
    grant(ledger, account_id, 6000, now=NOW)
    spend(ledger, "office-1", 1234, "e1", now=NOW)
    [message_id] = due_messages(ledger, now=NOW)
    assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "sent"
    [mail] = server.received
    assert mail["To"] == "anna@example.com"
    assert mail["From"] == '"Example Mailing Inc." <refill@example.com>'
    assert mail["Subject"] == "office-1 has 47.66 dollars of mail credit left"
    assert mail["Message-ID"] == f"<{message_id}@refill>"
    assert mail["Date"] == "Wed, 01 May 2030 12:00:00 +0000"
    assert "50.00 dollars of mail credit" in text_of(mail)
    assert "Automatic recharge is off" in text_of(mail)
    assert state(ledger, message_id) == ("sent", 1)


def test_a_recharge_names_its_invoice_card_and_money(ledger: Connection, server: MailServer) -> None:
    deliver(ledger, over_smtp(server.url), enqueue(ledger, "recharge_succeeded"), NOW)
    [mail] = server.received
    assert mail["Subject"].strip() == "1,000.00 dollars of mail credit added to office-1 (invoice MAIL-2030-000007)"
    for fact in ("1,234.50 dollars of mail credit", "$1,000.00 with Visa ending in 4242", "MAIL-2030-000007", "41"):
        assert fact in text_of(mail)


def test_a_decline_says_why_and_when_the_next_try_is_in_the_time_of_the_program(
    ledger: Connection, server: MailServer
) -> None:
    deliver(ledger, over_smtp(server.url), enqueue(ledger, "declined"), NOW)
    said = " ".join(text_of(server.received[0]).split())
    assert "the card has no money left" in said
    assert "not before 2 May 2030, 08:00 (America/New_York)" in said
    assert "No money was taken" in said


def test_a_decline_without_a_next_try_asks_the_holder_to_act(ledger: Connection, server: MailServer) -> None:
    deliver(ledger, over_smtp(server.url), enqueue(ledger, "declined", data=DATA | {"next_attempt_at": None}), NOW)
    assert "Please ask your bank" in text_of(server.received[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_the_same_in_plain_text_and_in_html(ledger: Connection, server: MailServer, kind: str) -> None:
    deliver(ledger, over_smtp(server.url), enqueue(ledger, kind), NOW)
    [mail] = server.received
    html = mail.get_body(("html",))
    assert html is not None
    assert "office-1" in text_of(mail)
    assert "office-1" in html.get_content()
    assert "{{" not in text_of(mail) + html.get_content() + mail["Subject"]


def test_what_the_html_shows_of_a_name_is_escaped(ledger: Connection, server: MailServer) -> None:
    deliver(ledger, over_smtp(server.url), enqueue(ledger, account="<b>&co"), NOW)
    html = server.received[0].get_body(("html",))
    assert html is not None
    assert "&lt;b&gt;&amp;co" in html.get_content()
    assert "<b>" not in html.get_content()


def test_recharge_that_is_on_is_said_to_come(ledger: Connection, server: MailServer) -> None:
    account_id = open_account(ledger, "office-1", "mail", email="a@example.com", recharge_below=1000)
    ledger.execute("insert into refill.policy (account_id, enabled) values (%s, true)", (account_id,))
    ledger.execute(
        "insert into refill.card (account_id, payment_method, customer, fingerprint, brand, last4, exp_month, exp_year,"
        " added_by) values (%s, 'pm', 'cus', 'fp', 'visa', '4242', 1, 2031, 'test')",
        (account_id,),
    )
    deliver(ledger, over_smtp(server.url), enqueue(ledger), NOW)
    assert "You need to do nothing" in text_of(server.received[0])
    assert "10.00 dollars of mail credit" in text_of(server.received[0])


def test_recharge_without_a_card_asks_for_one(ledger: Connection, server: MailServer) -> None:
    account_id = open_account(ledger, "office-1", "mail", email="a@example.com", recharge_below=1000)
    ledger.execute("insert into refill.policy (account_id, enabled) values (%s, true)", (account_id,))
    deliver(ledger, over_smtp(server.url), enqueue(ledger), NOW)
    assert "no card is saved" in " ".join(text_of(server.received[0]).split())


def test_no_name_can_add_a_header(ledger: Connection, server: MailServer) -> None:
    evil = "x\r\nBcc: victim@example.com\r\n\r\nbody"
    message_id = enqueue(ledger, account=evil)
    assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "sent"
    assert server.received[0]["Bcc"] is None
    assert server.received[0]["Subject"].strip().startswith("x Bcc: victim@example.com body has")


def test_an_address_with_a_line_break_poisons_its_own_message_only(ledger: Connection, server: MailServer) -> None:
    bad, good = enqueue(ledger, account="a"), enqueue(ledger, account="b")
    ledger.execute(
        "update refill.message set to_address = %s where message_id = %s", ("a@b.c\r\nBcc: victim@example.com", bad)
    )
    outcomes = [deliver(ledger, over_smtp(server.url), message_id, NOW) for message_id in (bad, good)]
    assert outcomes == ["poisoned", "sent"]
    assert len(server.received) == 1


def test_data_that_no_template_can_show_poisons_its_own_message_only(ledger: Connection, server: MailServer) -> None:
    bad, good = enqueue(ledger, "recharge_succeeded", data={}), enqueue(ledger)
    outcomes = [deliver(ledger, over_smtp(server.url), message_id, NOW) for message_id in (bad, good)]
    assert outcomes == ["poisoned", "sent"]
    assert due_messages(ledger, now=NOW + timedelta(days=9)) == []


def test_a_server_that_is_not_there_is_tried_again_later(ledger: Connection) -> None:
    message_id = enqueue(ledger)
    assert deliver(ledger, over_smtp(f"smtp://127.0.0.1:{free_port()}"), message_id, NOW) == "deferred"
    assert state(ledger, message_id) == ("pending", 1)
    assert next_at(ledger, message_id) == NOW + BACK_OFF[0]
    assert due_messages(ledger, now=NOW) == []
    assert due_messages(ledger, now=NOW + BACK_OFF[0]) == [message_id]


def test_an_answer_of_4xx_is_tried_again_at_once(ledger: Connection, server: MailServer) -> None:
    server.answers = ["451 try again"]
    message_id = enqueue(ledger)
    assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "sent"
    assert server.connections == 2
    assert state(ledger, message_id) == ("sent", 1)


def test_three_answers_of_4xx_are_enough_for_now(ledger: Connection, server: MailServer) -> None:
    server.answers = ["451 try again"] * 3
    message_id = enqueue(ledger)
    assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "deferred"
    assert server.connections == 3


def test_an_answer_of_5xx_about_the_mail_is_final(ledger: Connection, server: MailServer) -> None:
    server.recipient_answers = ["550 no such user anna@example.com"]
    message_id = enqueue(ledger)
    assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "poisoned"
    assert server.connections == 1
    error = fetch_one(ledger, "select last_error from refill.message where message_id = %s", (message_id,))[0]
    assert error == "The mail server refused the mail: 550 no such user (the recipient)"


def test_an_answer_of_5xx_about_ourselves_loses_no_message(ledger: Connection, server: MailServer) -> None:
    server.sender_answers = ["550 we do not know you"]
    message_id = enqueue(ledger)
    assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "deferred"
    assert deliver(ledger, over_smtp(server.url), message_id, NOW + BACK_OFF[0]) == "sent"


def test_tries_come_later_each_time_and_end(ledger: Connection) -> None:
    nowhere = over_smtp(f"smtp://127.0.0.1:{free_port()}")
    message_id, moment = enqueue(ledger), NOW
    for pause in BACK_OFF:
        assert deliver(ledger, nowhere, message_id, moment) == "deferred"
        assert next_at(ledger, message_id) == moment + pause
        moment += pause
    assert deliver(ledger, nowhere, message_id, moment) == "poisoned"


class KilledAfterSending:
    """A mailer whose process dies when the mail has left."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer

    def send(self, mail: EmailMessage) -> None:
        self._mailer.send(mail)
        raise SystemExit


def test_a_kill_between_sending_and_its_note_repeats_the_same_message_id(
    ledger: Connection, server: MailServer
) -> None:
    message_id = enqueue(ledger)
    with pytest.raises(SystemExit):
        deliver(ledger, post(KilledAfterSending(SmtpMailer(server.url))), message_id, NOW)
    assert state(ledger, message_id) == ("pending", 1)
    assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "skipped"
    assert deliver(ledger, over_smtp(server.url), message_id, NOW + CLAIM) == "sent"
    assert [mail["Message-ID"] for mail in server.received] == [f"<{message_id}@refill>"] * 2


def test_a_message_that_kills_every_worker_is_given_up(ledger: Connection, server: MailServer) -> None:
    message_id, moment = enqueue(ledger), NOW
    for _ in range(len(BACK_OFF) + 1):
        with pytest.raises(SystemExit):
            deliver(ledger, post(KilledAfterSending(SmtpMailer(server.url))), message_id, moment)
        moment += CLAIM
    assert deliver(ledger, over_smtp(server.url), message_id, moment) == "poisoned"
    assert len(server.received) == len(BACK_OFF) + 1


def test_a_message_that_another_worker_has_is_left_to_it(ledger: Connection, database: str, server: MailServer) -> None:
    message_id = enqueue(ledger)
    with connect(database) as other, other.transaction():
        other.execute("select from refill.message where message_id = %s for update", (message_id,))
        assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "skipped"
    assert deliver(ledger, over_smtp(server.url), message_id, NOW) == "sent"


def test_a_message_is_sent_once_however_often_it_is_poked(ledger: Connection, server: MailServer) -> None:
    message_id = enqueue(ledger)
    assert [deliver(ledger, over_smtp(server.url), message_id, NOW) for _ in range(3)] == ["sent", "skipped", "skipped"]
    assert len(server.received) == 1


def test_a_directory_takes_mails_as_files_that_mail_programs_read(ledger: Connection, tmp_path: Path) -> None:
    message_id = enqueue(ledger)
    directory = tmp_path / "not" / "made yet"
    assert deliver(ledger, post(DirectoryMailer(directory)), message_id, NOW) == "sent"
    [path] = directory.iterdir()
    assert path.name == f"{message_id}.eml"
    mail = message_from_bytes(path.read_bytes(), policy=SMTP)
    assert mail["Subject"] == "office-1 has 1,234.50 dollars of mail credit left"


def test_a_directory_that_cannot_be_written_is_tried_again_later(ledger: Connection, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert deliver(ledger, post(DirectoryMailer(tmp_path / "taken")), enqueue(ledger), NOW) == "deferred"


def test_no_password_leaves_in_the_clear(ledger: Connection) -> None:
    # A server beyond this machine that offers no encryption: 127.0.0.2 is none of the names of this machine.
    server = MailServer("127.0.0.2")
    with server.running():
        message_id = enqueue(ledger)
        url = server.url.replace("smtp://", "smtp://user:secret@")
        assert deliver(ledger, over_smtp(url), message_id, NOW) == "deferred"
    assert server.received == []
