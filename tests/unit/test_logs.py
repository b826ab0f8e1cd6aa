"""Logs as a process writes them, and what must never be in them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.jsonlines import encode
from worker.redact import redact, redacted

CARDS = [
    "4242424242424242",
    "4000056655665556",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011000990139424",
    "3056930009020004",
    "3566002020360505",
    "6200000000000005",
    "6205500000000000004",
]


def run(code: str, log_format: str = "json", log_level: str = "info") -> subprocess.CompletedProcess[str]:
    """The lines of a real process that was set up as the daemon is."""
    start = f"import structlog, worker.logs\nworker.logs.configure('worker', {log_format!r}, {log_level!r})\n"
    program = start + "log = structlog.get_logger()\n" + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def lines_of(code: str, log_level: str = "info") -> list[dict[str, object]]:
    return [json.loads(line) for line in run(code, log_level=log_level).stdout.splitlines()]


def field(value: object, name: str = "message") -> object:
    return redact(None, "info", {name: value})[name]


def test_a_line_is_one_json_object_that_begins_with_what_every_line_has() -> None:
    (line,) = lines_of("log.info('charge.settled', charge_id=7, amount=500, currency='USD')")
    assert list(line) == ["timestamp", "level", "event", "process", "charge_id", "amount", "currency"]
    assert (line["level"], line["event"], line["process"]) == ("info", "charge.settled", "worker")
    assert (line["charge_id"], line["amount"], line["currency"]) == (7, 500, "USD")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["timestamp"]))
    age = datetime.now(UTC) - datetime.fromisoformat(str(line["timestamp"]))
    assert abs(age.total_seconds()) < 60


def test_the_level_is_the_least_that_is_logged() -> None:
    code = "for level in ('debug', 'info', 'warning', 'error'): getattr(log, level)('job.finished')"
    assert [line["level"] for line in lines_of(code, "warning")] == ["warning", "error"]
    assert [line["level"] for line in lines_of(code)] == ["info", "warning", "error"]


def test_bound_ids_are_on_every_line_within_and_on_none_after() -> None:
    inside, after = lines_of(
        """
        with worker.logs.bound(charge_id=7):
            log.info("charge.created")
        log.info("charge.created")
        """
    )
    assert inside["charge_id"] == 7
    assert "charge_id" not in after


def test_libraries_are_heard_from_warning_on_in_our_form() -> None:
    lines = lines_of(
        """
        import logging, warnings
        library = logging.getLogger("dramatiq.worker")
        library.info("not this")
        library.warning("slow: %s", "alice@example.com")
        library.error("wrong format: %d", "x")
        library.log(35, "odd level")
        warnings.warn("old")
        """
    )
    assert {line["event"] for line in lines} == {"library.logged"}
    assert [line["level"] for line in lines] == ["warning", "error", "warning", "warning"]
    assert lines[0]["logger"] == "dramatiq.worker"
    assert lines[0]["message"] == "slow: a***@example.com"
    assert "wrong format" in str(lines[1]["message"])
    assert lines[3]["logger"] == "py.warnings"


def test_a_caught_exception_is_a_field_of_one_line() -> None:
    (line,) = lines_of(
        """
        try:
            raise ValueError("no\\nsuch card 4242424242424242")
        except ValueError:
            log.exception("job.failed", job="sweep")
        """
    )
    assert line["level"] == "error"
    assert str(line["traceback"]).startswith("Traceback")
    assert "4242424242424242" not in str(line)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_uncaught_exception_is_logged_and_not_left_on_standard_error(log_format: str) -> None:
    done = run("raise ValueError('password=hunter2')", log_format)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "process.crashed" in done.stdout
    assert "internal_error" in done.stdout
    assert "hunter2" not in done.stdout


def test_an_exception_that_ends_a_thread_is_logged_with_its_code() -> None:
    (line,) = lines_of(
        """
        import threading
        from jobs.errors import DatabaseUnavailable
        def fail() -> None:
            raise DatabaseUnavailable
        for target in (fail, exit):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        """
    )
    assert (line["event"], line["level"], line["code"]) == ("process.crashed", "critical", "database_unavailable")


def test_a_stop_from_the_keyboard_is_no_crash() -> None:
    done = run("raise KeyboardInterrupt")
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode != 0


def test_auto_is_json_where_there_is_no_terminal() -> None:
    json.loads(run("log.info('job.finished')", "auto").stdout)


def test_the_form_for_people_cannot_be_steered_by_what_is_logged() -> None:
    done = run(
        r"log.info('job.finished', job='\x1b[2J\nfake line', at=__import__('datetime').datetime.now())", "console"
    )
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_threads_never_mix_their_lines() -> None:
    lines = lines_of(
        """
        import threading
        def many() -> None:
            for number in range(200):
                log.info("job.finished", text="x" * 5000, count=number)
        threads = [threading.Thread(target=many) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        """
    )
    assert len(lines) == 800


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(st.characters())
            | st.binary()
            | st.datetimes()
            | st.datetimes(timezones=st.just(UTC))
            | st.decimals()
            | st.uuids()
            | st.dates(),
            lambda inner: st.lists(inner) | st.sets(st.integers()) | st.dictionaries(st.integers() | st.text(), inner),
            max_leaves=8,
        ),
        max_size=5,
    )
)
@example({"broken": "\udcff", "large": 10**30})
def test_whatever_is_in_a_row_there_is_one_line_of_utf_8(row: dict[str, object]) -> None:
    for line in (encode(row), encode(redact(None, "info", dict(row)))):
        assert "\n" not in line
        assert isinstance(json.loads(line.encode()), dict)


LOCAL = st.from_regex(r"[A-Za-z][A-Za-z0-9._+'-]{2,30}", fullmatch=True)
DOMAIN = st.from_regex(r"[a-z][a-z0-9-]{1,10}\.(com|co\.uk|example)", fullmatch=True)
AROUND = st.sampled_from(["", " ", "<", "mailto:", "to=", '"', "(", ",", ";", "[", "{'to': '", "\n", "\t"])


@given(LOCAL, DOMAIN, AROUND, st.sampled_from(["@", "%40"]))
@example("alice", "example.com", "x?email=", "%40")
def test_no_address_is_told_in_full_wherever_it_stands(local: str, domain: str, around: str, at: str) -> None:
    told = redacted(f"{around}{local}{at}{domain}{around}")
    assert f"{local}{at}" not in told
    assert f"{local}@" not in told
    assert f"{local[0]}***@{domain}" in told


def test_addresses_are_found_at_any_depth_and_in_names_within() -> None:
    told = str(field({"to": ["alice@example.com", ("bob@example.com",)], "carol@example.com": {b"dan@example.com"}}))
    for name in ("alice", "bob", "carol", "dan"):
        assert name not in told
    assert told.count("***@example.com") == 4


@given(
    st.sampled_from(CARDS),
    st.sampled_from(["", " ", "card ", "number=", '{"number":"', "card[number]=", "\\n", "(", "-"]),
    st.sampled_from(["", " ", '"', ".", ")", "&x=1", ", 4242", "\n"]),
)
def test_no_card_number_is_told(card: str, before: str, after: str) -> None:
    told = redacted(before + card + after)
    assert card not in told
    assert f"***{card[-4:]}" in told


@pytest.mark.parametrize(
    "text", ["4242 4242 4242 4242", "4242-4242-4242-4242", "3782 822463 10005", "5555-5555-5555-4444."]
)
def test_a_card_number_in_printed_groups_is_not_told(text: str) -> None:
    assert len(re.findall(r"\d", redacted(text))) == 4


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424241",  # the check digit is wrong
        "1732240000000",  # Unix time in milliseconds
        "1732240000000123",
        "1732240000000-0",  # the id of a stream entry
        "0.4242424242424242",
        "00000000-0000-4000-8000-000000000000",
        "pi_3MtwBwLkdIwHu7ix28a3tqPa",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "2026-03-01T09:30:00.123Z",
        "POINTS-2026-000001",
        "http://127.0.0.1:8080/v1/payment_intents",
        "redis://host:6379/0",
        "points:42424242",
        "authentication_required",
        "risk_score of task_id on disk_1",
        "basic understanding of tokens spent: 44",
        "@property",
    ],
)
def test_times_ids_and_plain_words_stay(text: str) -> None:
    assert redacted(text) == text


@given(st.integers())
@example(4242424242424242)
def test_amounts_stay_whatever_they_look_like(amount: int) -> None:
    assert field(amount, "amount") == amount


@pytest.mark.parametrize("name", ["event_id", "id", "payment_intent_id", "seq"])
def test_an_id_of_upstream_stays_though_it_looks_like_a_card(name: str) -> None:
    assert field("4242424242424242", name) == "4242424242424242"


SECRET = "kx7Qm2Zp9"


@pytest.mark.parametrize(
    "text",
    [
        f"sk_test_{SECRET}",
        f"sk_live_{SECRET} and more",
        f"(rk_live_{SECRET})",
        f"whsec_{SECRET}",
        f"pi_123_secret_{SECRET}",
        f"postgresql://user:{SECRET}@host:5432/database",
        f"postgresql://user:p@{SECRET}@host/database",
        f"redis://:{SECRET}@host/0",
        f"amqp://user:{SECRET}@host and smtp://user:{SECRET}@host",
        f"host=h password={SECRET} dbname=d",
        f"password='{SECRET} two'",
        f'{{"password": "{SECRET}"}}',
        rf"{{\"password\": \"{SECRET}\"}}",
        f"PASSWORD = {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization: Basic {SECRET}ab==",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"{{b'authorization': b'Bearer {SECRET}'}}",
        f"Bearer {SECRET}",
        f"api_key={SECRET}&x=1",
        f"client_secret={SECRET}",
        f"token: {SECRET}",
        f"Cookie: session={SECRET}",
    ],
)
def test_no_secret_is_told_in_any_of_its_forms(text: str) -> None:
    for told in (redacted(text), redacted(f"before {text} after"), str(field(ValueError(text)))):
        assert SECRET not in told
        assert "***" in told


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "passwd", "secret", "client_secret", "clientSecret", "token", "access_token",
     "api_key", "apiKey", "STRIPE_API_KEY", "authorization", "Authorization", "cookie",
     "cvc", "card_number", "pan", "private_key"],
)  # fmt: skip
def test_a_field_with_the_name_of_a_secret_is_not_told(name: str) -> None:
    assert field(SECRET, name) == "***"
    assert field({name: 4242424242424242}) == {name: "***"}
    assert field(None, name) is None


@pytest.mark.parametrize("name", ["account", "amount", "tokens", "company", "expanded", "code", "path"])
def test_a_field_with_another_name_is_told(name: str) -> None:
    assert field("value", name) == "value"


@pytest.mark.parametrize(
    "text",
    ["@" * 50_000, "a" * 50_000 + "@", "a." * 25_000, "://a:" * 10_000, "4242 " * 10_000, "token " * 10_000,
     "sk_" * 20_000, "basic " + "a" * 50_000, "password=" * 5_000, "authorization:" * 4_000],
)  # fmt: skip
def test_no_text_makes_redaction_slow(text: str) -> None:
    before = datetime.now(UTC)
    redacted(text)
    assert (datetime.now(UTC) - before).total_seconds() < 3


def test_an_object_that_holds_itself_is_told_all_the_same() -> None:
    knot: list[object] = ["alice@example.com"]
    knot.append(knot)
    told = cast("list[object]", field(knot))
    assert told[0] == "a***@example.com"
    assert "alice" not in encode({"knot": told})
