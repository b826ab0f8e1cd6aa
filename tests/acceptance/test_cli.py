"""The command line as people and scripts meet it: real commands, their tables, JSON, errors and exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.program import example_programs
from tests.support.databases import temporary_database
from tests.support.processes import REFILL, clean_environment
from tests.support.sandbox import Sandbox

PROGRAMS = Path(__file__).parents[2] / "config" / "programs"

COMMANDS = (
    "up", "migrate", "intake", "scheduler", "worker", "settings", "status", "audit", "program", "organisation",
    "account", "member", "card", "policy", "grant", "spend", "history", "explain", "run", "replay", "sandbox",
)  # fmt: skip

pytestmark = pytest.mark.acceptance


class Answer:
    """What one command said, and how it ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.status = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()
        assert "Traceback" not in self.out + self.err, self.err

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Standard output, one object per line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """Standard error, one object."""
        told: dict[str, Any] = json.loads(self.err)
        return told


class CommandLine:
    """``refill`` with an environment of its own."""

    def __init__(self, **environment: str) -> None:
        self.environment = environment

    def __call__(self, *arguments: str | bytes | Path, **environment: str) -> Answer:
        command = [os.fsencode(argument) for argument in (REFILL, *arguments)]
        whole = clean_environment(**{**self.environment, **environment})
        return Answer(subprocess.run(command, env=whole, capture_output=True, stdin=subprocess.DEVNULL, timeout=60))


@pytest.fixture(scope="module")
def refill(
    postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CommandLine]:
    """A ledger with the example programs, an organisation, an account ``camp`` of 5,000 points, and a sandbox."""
    directory = tmp_path_factory.mktemp("cli")
    sandbox = Sandbox(directory / "sandbox.db")
    sandbox.start()
    with temporary_database(postgres_url, template_database) as url:
        refill = CommandLine(
            DATABASE_URL=url, REFILL_DATA=str(directory), STRIPE_API_KEY=sandbox.key, STRIPE_API_BASE=sandbox.url
        )
        for command in (
            ["program", "load", *sorted(PROGRAMS.glob("*.toml"))],
            ["organisation", "create", "acme", "--program", "points"],
            ["account", "open", "camp", "--organisation", "acme", "--program", "points", "--email", "ann@example.com"],
            ["grant", "camp", "5000", "--reason", "welcome"],
        ):
            done = refill(*command)
            assert done.status == 0, done.err
        yield refill
    sandbox.stop()


def test_help_names_every_command_and_needs_nothing(refill: CommandLine) -> None:
    done = CommandLine()("--help")
    listed = done.out.partition("Commands:")[2].split()
    for command in COMMANDS:
        assert command in listed
    assert "demo" not in listed
    assert CommandLine()().out == done.out
    assert CommandLine()("--version").out.startswith("refill ")


@pytest.mark.parametrize(
    "command",
    [
        "up", "migrate", "intake", "settings", "program load", "program list", "program show", "organisation create",
        "account open", "account show", "account close", "member add", "card add", "card list", "card block",
        "card unblock", "policy set", "policy show", "grant", "spend", "sandbox",
    ],
)  # fmt: skip
def test_every_command_is_explained_with_an_example(command: str) -> None:
    done = CommandLine()(*command.split(), "--help")
    assert done.status == 0
    assert f"Example:\n    refill {command}" in done.out


def test_json_may_stand_anywhere(refill: CommandLine) -> None:
    for arguments in (["--json", "program", "list"], ["program", "--json", "list"], ["program", "list", "--json"]):
        assert [row["program"] for row in refill(*arguments).rows] == ["mail", "points", "sms"]


def test_people_get_tables_with_units(refill: CommandLine) -> None:
    shown = refill("account", "show", "camp").out
    assert "5,000 points" in shown
    assert "1,000 points" in shown
    assert "ann@example.com" in shown
    assert "0.0594 to 0.088 AUD per SMS credit" in refill("program", "list").out
    policy = refill("policy", "show", "camp").out
    assert "$500.00" in policy
    assert "program" in policy


def test_a_program_shown_as_json_is_what_its_file_says(refill: CommandLine) -> None:
    (mail, *_) = example_programs()
    assert refill("program", "show", mail.name, "--json").rows == [json.loads(mail.to_json())]


def test_migrating_and_loading_again_change_nothing(refill: CommandLine) -> None:
    assert refill("migrate", "--json").rows == [{"applied": [], "sandbox": False}]
    again = refill("program", "load", PROGRAMS / "points.toml", "--json").rows
    assert again == [{"program": "points", "result": "unchanged"}]


def test_an_account_lives_from_its_opening_to_its_closing(refill: CommandLine) -> None:
    opening = ["account", "open", "short", "--organisation", "acme", "--program", "points", "--json"]
    assert refill(*opening).rows[0]["account"] == "short"
    assert refill(*opening).status == 0
    granted = refill("grant", "short", "100", "--reason", "r", "--request-id", "g-1", "--json").rows
    assert refill("grant", "short", "100", "--reason", "r", "--request-id", "g-1", "--json").rows == granted
    other = refill("grant", "short", "101", "--reason", "r", "--request-id", "g-1", "--json")
    assert (other.status, other.error["error"]) == (1, "conflict")
    refused = refill("account", "close", "short", "--json")
    assert (refused.status, refused.error["error"]) == (1, "balance_remaining")
    assert refill("spend", "short", "100", "--id", "all-of-it").status == 0
    assert refill("account", "close", "short", "--json").rows[0]["closed_at"] is not None
    closed = refill("spend", "short", "1", "--id", "too-late", "--json")
    assert (closed.status, closed.error["error"]) == (1, "account_closed")


def test_a_spend_says_what_became_of_it(refill: CommandLine) -> None:
    said = refill("spend", "camp", "120", "--id", "o-1")
    assert said.status == 0
    assert said.out.startswith("Accepted: camp spent 120 points; the balance is ")
    again = refill("spend", "camp", "120", "--id", "o-1", "--json").rows[0]
    assert (again["outcome"], again["shortfall"]) == ("accepted", 0)
    other = refill("spend", "camp", "121", "--id", "o-1")
    assert (other.status, other.out) == (1, "")
    assert other.err.rstrip().endswith("[conflict]")


def test_a_spend_without_credit_names_the_shortfall(refill: CommandLine) -> None:
    refused = refill("spend", "camp", "1000000", "--id", "o-2", "--json")
    assert refused.status == 1
    assert refused.rows[0]["outcome"] == "insufficient_credit"
    told = refused.error
    assert told["error"] == "insufficient_credit"
    assert told["required"] - told["available"] == told["shortfall"] == refused.rows[0]["shortfall"]
    assert "are missing" in refill("spend", "camp", "1000000", "--id", "o-2").err


def test_an_amount_that_is_none_is_malformed_and_posts_nothing(refill: CommandLine) -> None:
    before = refill("account", "show", "camp", "--json").rows
    for amount in ("12.5", "-5", "-12.5", "0", "1" + "0" * 30, "1" * 5000, "", "1e3", "+5", "٣", "1,000"):
        refused = refill("spend", "camp", amount, "--id", "never", "--json")
        assert (refused.status, refused.error["error"], refused.out) == (2, "malformed", ""), amount
        assert "Usage" not in refused.err
    assert refill("account", "show", "camp", "--json").rows == before


@pytest.mark.parametrize(
    "arguments", [[], ["--id", ""], ["--id", "x" * 65]], ids=["no id", "empty id", "65 characters"]
)
def test_an_event_without_a_proper_id_is_malformed(refill: CommandLine, arguments: list[str]) -> None:
    refused = refill("spend", "camp", "5", *arguments, "--json")
    assert (refused.status, refused.error["error"]) == (2, "malformed")


@pytest.mark.parametrize(
    "command",
    [
        [b"spend", b"caf\xe9", b"5", b"--id", b"1"],
        [b"spend", b"camp", b"5", b"--id", b"\xff\xfe"],
        [b"grant", b"camp", b"5", b"--reason", b"\xc3("],
        [b"organisation", b"create", b"\x80", b"--program", b"points"],
    ],
)
def test_bytes_that_are_not_utf_8_are_malformed(refill: CommandLine, command: list[bytes]) -> None:
    refused = refill(*command, "--json")
    assert (refused.status, refused.error["error"]) == (2, "malformed")
    assert "is not UTF-8" in refused.error["message"]


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [
        ("spend nobody 5 --id n-1", "unknown_account", 1),
        ("account show nobody", "unknown_account", 1),
        ("program show gold", "unknown_program", 1),
        ("organisation create other --program gold", "unknown_program", 1),
        ("organisation create acme --program points --individual", "conflict", 1),
        ("account open x --organisation nobody --program points", "unknown_organisation", 1),
        ("account open x --organisation acme --program mail", "program_not_held", 1),
        ("account open x --organisation acme --program points --tier gold", "unknown_tier", 1),
        ("account open x --organisation acme --program points --email here", "malformed", 2),
        ("account open camp --organisation acme --program points", "already_exists", 1),
        ("member add acme ann --role boss", "malformed", 2),
        ("member add acme ann --role user", "malformed", 2),
        ("card add camp", "malformed", 2),
        ("card add camp --test-card rubbish", "test_card_unavailable", 1),
        ("card add camp --payment-method pm_none", "unknown_payment_method", 1),
        ("card block nothing", "unknown_card", 1),
        ("policy set camp", "malformed", 2),
        ("policy set camp --amount 77", "amount_not_offered", 1),
        ("policy set camp --amount 500 --target 900", "malformed", 2),
        ("policy set camp --cap-month 50.001", "malformed", 2),
        ("policy set camp --cap-month -50", "malformed", 2),
        ("policy set camp --cap-day 50EUR", "malformed", 2),
        ("policy set camp --alert-below -5", "malformed", 2),
        ("grant camp -5 --reason r", "malformed", 2),
        ("grant --reason r camp 12.5", "malformed", 2),
        ("grant camp 10 --reason r --expires-days 0", "malformed", 2),
        ("grant camp 1000000000000001 --reason r", "malformed", 2),
        ("polcy show camp", "usage", 2),
        ("policy", "usage", 2),
        ("policy show camp --nothing", "usage", 2),
        ("account show", "malformed", 2),
        ("program load nothing.toml", "invalid_program", 2),
    ],
)
def test_what_cannot_be_done_is_said_with_a_code(refill: CommandLine, command: str, code: str, status: int) -> None:
    refused = refill(*command.split(), "--json")
    assert (refused.error["error"], refused.status) == (code, status)


def test_people_are_told_errors_as_one_sentence_with_its_code(refill: CommandLine) -> None:
    assert refill("policy", "set", "camp", "--amount", "77").err == (
        "error: 77 is not a recharge amount of points: choose one of 500, 1000, 2500, 5000, 10000, 25000"
        " [amount_not_offered]\n"
    )
    assert refill("spend", "camp", "-5", "--id", "x").err == (
        "error: -5 is no amount: amounts are whole numbers of 1 or more [malformed]\n"
    )
    assert (
        refill("policy", "show").err
        == "error: Missing argument 'ACCOUNT'; see `refill policy show --help` [malformed]\n"
    )


def test_every_fault_of_a_program_file_is_said_at_once(refill: CommandLine, tmp_path: Path) -> None:
    faulty = tmp_path / "gold.toml"
    text = (PROGRAMS / "points.toml").read_text("utf-8")
    faulty.write_text(text.replace('"USD"', '"DOLLARS"').replace("decimals = 0", "decimals = -1"), "utf-8")
    refused = refill("program", "load", faulty, "--json")
    assert (refused.status, refused.error["error"], len(refused.error["faults"])) == (2, "invalid_program", 2)
    faulty.write_bytes(b"name = \xff")
    assert refill("program", "load", faulty, "--json").error["error"] == "invalid_program"


def test_of_several_files_with_one_fault_none_is_loaded(refill: CommandLine, tmp_path: Path) -> None:
    good, faulty = tmp_path / "silver.toml", tmp_path / "gold.toml"
    good.write_text((PROGRAMS / "points.toml").read_text("utf-8").replace('"points"', '"silver"', 1), "utf-8")
    faulty.write_text("name = 1", "utf-8")
    assert refill("program", "load", good, faulty).status == 2
    assert "silver" not in [row["program"] for row in refill("program", "list", "--json").rows]


def test_a_card_is_saved_listed_blocked_and_unblocked(refill: CommandLine) -> None:
    added = refill("card", "add", "camp", "--test-card", "ok", "--json").rows[0]
    listed = refill("card", "list", "camp").out
    assert "visa ending in 4242" in listed
    assert "in use" in listed
    assert refill("card", "block", added["fingerprint"], "--json").rows[0]["stop"] == "operator"
    assert "stopped: blocked by operator:" in refill("card", "list", "camp").out
    assert refill("card", "unblock", added["fingerprint"], "--json").rows[0]["stop"] is None


@pytest.mark.parametrize("money", ["50", "50.00", "50.00 USD"])
def test_money_is_typed_as_people_write_it(refill: CommandLine, money: str) -> None:
    policy = refill("policy", "set", "camp", "--cap-month", money, "--json").rows[0]
    assert policy["cap_month"] == {"value": 5_000, "source": "account", "locked": False}
    assert policy["currency"] == "USD"


def test_a_policy_tells_what_is_agreed_to(refill: CommandLine) -> None:
    shown = refill("policy", "set", "camp", "--recharge-below", "600", "--amount", "1000", "--on").out
    assert "600 points   account" in shown
    assert "is charged whenever the balance falls below 600 points, for 1,000 points at $10.00" in shown
    assert "Recharge is off" in refill("policy", "set", "camp", "--off").out


def test_a_member_is_added(refill: CommandLine) -> None:
    added = refill("member", "add", "acme", "ann", "--role", "manager", "--account", "camp", "--json").rows
    assert added == [{"name": "ann", "organisation": "acme", "role": "manager", "accounts": ["camp"]}]
    assert refill("member", "add", "acme", "max", "--role", "master").out == "max is a master of acme: every account.\n"


def test_settings_are_listed_without_their_secrets(refill: CommandLine) -> None:
    rows = {row["name"]: row for row in refill("settings", "--json").rows}
    assert rows["STRIPE_API_KEY"]["value"] == "sk_test_***"
    assert rows["REFILL_LOG_LEVEL"]["source"] == "default"
    events = refill("settings", "--events", "--json").rows
    assert "charge.settled" in [event["event"] for event in events]


def test_every_wrong_setting_is_said_at_once(refill: CommandLine) -> None:
    refused = refill("settings", "--json", REDIS_URL="ftp://x", REFILL_WORKER_THREADS="many")
    assert (refused.status, refused.error["error"]) == (2, "bad_settings")
    assert {fault["name"] for fault in refused.error["faults"]} == {"REDIS_URL", "REFILL_WORKER_THREADS"}


def test_a_database_that_is_not_given_or_does_not_answer_is_named(refill: CommandLine, tmp_path: Path) -> None:
    missing = CommandLine(REFILL_DATA=str(tmp_path))("program", "list", "--json")
    assert (missing.status, missing.error["error"]) == (2, "bad_settings")
    silent = refill("program", "list", "--json", DATABASE_URL="postgresql://127.0.0.1:1/nothing")
    assert (silent.status, silent.error["error"]) == (1, "database_unavailable")


def test_a_database_that_was_not_migrated_is_named(refill: CommandLine, postgres_url: str) -> None:
    with temporary_database(postgres_url) as url:
        refused = refill("program", "list", "--json", DATABASE_URL=url)
    assert (refused.status, refused.error["error"]) == (2, "schema_outdated")


def test_the_sandbox_says_where_it_answers_and_that_a_port_is_taken(refill: CommandLine, tmp_path: Path) -> None:
    port = refill.environment["STRIPE_API_BASE"].rpartition(":")[2]
    refused = refill("sandbox", "--port", port, "--data", tmp_path / "other.db", "--json")
    assert (refused.status, refused.error["error"]) == (2, "port_in_use")


def test_a_reader_that_hangs_up_ends_a_command_quietly(refill: CommandLine) -> None:
    command = f"{REFILL} settings --events --json | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=clean_environment(**refill.environment),
        capture_output=True,
        timeout=60,
    )
    assert (done.stderr, done.returncode) == (b"", 141)
