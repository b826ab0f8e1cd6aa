"""`refill history` and `refill explain` as people and scripts meet them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.ledger.database import connect
from jobs.spend import SpendEvent, post
from tests.support.databases import temporary_database
from tests.support.processes import REFILL, clean_environment
from tests.support.seed import grant, load_examples, open_account

pytestmark = pytest.mark.acceptance


@dataclass(frozen=True)
class Questions:
    """The command line on one ledger; each call gives the exit status, standard output and standard error."""

    environment: dict[str, str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [REFILL, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def refused(self, *arguments: str) -> tuple[int, str]:
        """The exit status and the code of a refusal."""
        status, _, error = self(*arguments, "--json")
        return status, str(json.loads(error)["error"])


@pytest.fixture(scope="module")
def refill(postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Questions]:
    """`office` holds mail credit in two lots, of which one order drew both; `camp` holds points; ann sees `office`."""
    data: Path = tmp_path_factory.mktemp("questions")
    with temporary_database(postgres_url, template_database) as url:
        with connect(url) as connection:
            load_examples(connection)
            office = open_account(connection, "office", "mail")
            grant(connection, office, 500, "2099-01-01")
            grant(connection, office, 123_450, "2099-06-01")
            grant(connection, open_account(connection, "camp", "points", recharge_below=500), 400)
            post(connection, [SpendEvent("order-1", "office", 700, None, "ref-7", "postcards", "ann")])
            post(connection, [SpendEvent("order-2", "office", 1)])
            connection.execute("insert into refill.member (organisation_id, name, role) values (1, 'ann', 'user')")
            connection.execute("insert into refill.member_account values (1, %s)", (office,))
        yield Questions(clean_environment(DATABASE_URL=url, REFILL_DATA=str(data)))


def test_history_is_a_table_with_signs_units_and_the_balance_after_each_entry(refill: Questions) -> None:
    status, out, _ = refill("history", "office")
    lines = [line.split() for line in out.splitlines()]
    assert status == 0
    assert "office · Mail credit, in dollars of mail credit" in out
    kinds = [line[2:5] for line in lines if line[2:3] in (["promotion"], ["spend"])]
    assert kinds == [["promotion", "+5.00", "5.00"], ["promotion", "+1,234.50", "1,239.50"],
                     ["spend", "-5.00", "1,234.50"], ["spend", "-0.01", "1,232.49"]]  # fmt: skip
    assert ["-2.00", "1,232.50", "2"] in lines, "what the order drew from a second lot stands below, nothing repeated"


def test_history_says_how_much_it_does_not_show(refill: Questions) -> None:
    _, out, _ = refill("history", "office", "--limit", "1")
    assert "4 earlier rows not shown; --limit 0 shows all." in out
    _, everything, _ = refill("history", "office", "--limit", "0")
    assert "not shown" not in everything


def test_history_as_json_is_every_row_by_the_names_of_the_contract(refill: Questions) -> None:
    _, out, _ = refill("history", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["account"] for row in rows] == ["camp"] + ["office"] * 5
    last = rows[-1]
    assert last["amount"] == -1
    contract = "entry_id at account kind amount balance_after lot_id event_id ref memo actor"
    assert set(last) >= set(contract.split())


def test_a_member_is_shown_their_own_accounts_and_refused_others(refill: Questions) -> None:
    _, out, _ = refill("history", "--as", "ann", "--json")
    assert {json.loads(line)["account"] for line in out.splitlines()} == {"office"}
    assert refill.refused("history", "camp", "--as", "ann") == (1, "not_permitted")
    assert refill.refused("history", "--as", "nobody") == (1, "unknown_member")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["history", "nobody"], 1, "unknown_account"),
        (["history", "--days", "3", "--from", "2026-01-01"], 2, "malformed"),
        (["history", "--from", "2026-02-01", "--to", "2026-01-01"], 2, "malformed"),
        (["explain", "nobody"], 1, "unknown_account"),
        (["explain", "camp", "--at", "soon"], 2, "malformed"),
        (["explain", "camp", "--at", "2199-01-01"], 2, "future_moment"),
    ],
)
def test_what_cannot_be_answered_is_said_with_a_code(
    refill: Questions, arguments: list[str], status: int, code: str
) -> None:
    assert refill.refused(*arguments) == (status, code)


def test_explain_answers_first_and_then_shows_what_it_rests_on(refill: Questions) -> None:
    status, out, _ = refill("explain", "camp")
    assert status == 0
    assert out.splitlines()[0] == "Not recharged: automatic recharge is switched off."
    for section in ("Lots in the order", "Policy in effect", "Decisions", "Charges", "Messages", "Entries"):
        assert section in out


def test_explain_as_json_is_one_object(refill: Questions) -> None:
    _, out, _ = refill("explain", "camp", "--json")
    told = json.loads(out)
    assert (told["sentence"], told["standing"]["balance"], told["recharge_below"], told["program"]) == (
        "Not recharged: automatic recharge is switched off.",
        400,
        500,
        "points",
    )
