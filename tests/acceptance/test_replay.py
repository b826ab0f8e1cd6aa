"""`refill replay`: a trace through the stream, the same again without effect, and every fault of a file by its code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.spending import Spending
from tests.support.processes import Processes

pytestmark = pytest.mark.acceptance

TRACE = Path(__file__).parents[3] / "shared" / "data" / "azure-llm-code-2023.csv"


@pytest.fixture
def spending(processes: Processes, database: str, redis_url: str) -> Spending:
    return Spending(processes, database, redis_url)


class Replay:
    """Runs the command on one ledger."""

    def __init__(self, processes: Processes, spending: Spending) -> None:
        self._processes = processes
        self._environment = {"DATABASE_URL": spending.database_url, "REDIS_URL": spending.redis_url}

    def __call__(self, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
        """The one JSON object that it prints, whatever its kind."""
        running = self._processes.refill("replay", *arguments, "--json", environment=self._environment)
        assert running.wait(timeout=60) == status, running.output
        (line,) = running.output.splitlines()
        said: dict[str, Any] = json.loads(line)
        return said


@pytest.fixture
def replay(processes: Processes, spending: Spending) -> Replay:
    return Replay(processes, spending)


def trace(path: Path, *rows: str, header: str = "TIMESTAMP,ContextTokens,GeneratedTokens") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_trace_is_spent_once_however_often_it_is_replayed(spending: Spending, replay: Replay, tmp_path: Path) -> None:
    spending.accounts(*[f"camp-{number}" for number in range(5)], credit=10_000)
    spending.intake()
    file = trace(tmp_path / "t.csv", *[f"2023-11-16 18:17:{n % 60:02}.1234567,{n},1" for n in range(300)])
    options = (file, "--program", "points", "--accounts", "5", "--seed", "7")

    first = replay(*options)
    assert first["events"] == sum(first["outcomes"].values()) == 300
    assert first["credits_spent"] == 5 * 10_000 - sum(spending.balance(f"camp-{number}") for number in range(5))
    assert first["credits_spent"] + first["credits_refused"] == sum(range(300)) + 300
    assert first["outcomes"]["insufficient_credit"] > 0
    before = spending.rows("select * from refill.entry_history order by entry_id")

    second = replay(*options)
    assert (second["known_before"], second["outcomes"]) == (300, first["outcomes"])
    assert spending.rows("select * from refill.entry_history order by entry_id") == before
    assert spending.quarantined() == {}
    spending.prove()


def test_another_seed_is_another_replay(spending: Spending, replay: Replay, tmp_path: Path) -> None:
    spending.accounts("a", "b", "c")
    spending.intake()
    file = trace(tmp_path / "t.csv", "2023-11-16 18:17:00,1,1", "2023-11-16 18:17:01,2,2")
    replay(file, "--program", "points", "--accounts", "3", "--seed", "1")
    replay(file, "--program", "points", "--accounts", "3", "--seed", "2")
    assert spending.rows("select count(*), sum(amount) from refill.spend_outcome") == [(4, 12)]


def test_the_times_of_the_trace_are_kept_and_the_columns_can_be_named(
    spending: Spending, replay: Replay, tmp_path: Path
) -> None:
    spending.accounts("a")
    spending.intake()
    file = trace(tmp_path / "t.csv", "5,2023-11-16T18:17:00+01:00", "0,2023-11-16T18:17:01Z", header="used,when")
    options = ("--column-amount", "used", "--column-time", "when", "--speed", "1000000")
    said = replay(file, "--program", "points", "--accounts", "1", "--seed", "1", *options)

    assert said["events"] == 1  # a row of 0 spends nothing
    assert spending.rows("select to_char(spent_at at time zone 'UTC', 'HH24:MI'), amount from refill.spend_event") == [
        ("17:17", 5)
    ]


@pytest.mark.skipif(not TRACE.exists(), reason="the real trace lies beside a checkout of the project only")
def test_the_real_trace_has_an_outcome_for_every_row(spending: Spending, replay: Replay) -> None:
    names = [f"camp-{number:02}" for number in range(50)]
    spending.accounts(*names, credit=200_000)
    spending.intake()
    options = (TRACE, "--program", "points", "--accounts", "50", "--seed", "1")

    first = replay(*options)
    assert sum(first["outcomes"].values()) == 8_819
    assert first["credits_spent"] == 50 * 200_000 - sum(spending.balance(name) for name in names)
    assert replay(*options)["outcomes"] == first["outcomes"]
    spending.prove()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"ContextTokens,GeneratedTokens\n1,2\n1,two\n", "bad_row"),
        (b"ContextTokens,GeneratedTokens\n1,-2\n", "bad_row"),
        (b"ContextTokens,GeneratedTokens\n1\n", "bad_row"),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,2\n", "bad_row"),
        (b"ContextTokens,Tokens\n1,2\n", "missing_column"),
        (b"ContextTokens,GeneratedTokens\n\xff,2\n", "not_utf8"),
        (b"ContextTokens,GeneratedTokens\n", "file_unusable"),
        (b"", "missing_column"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_before_anything_is_sent(
    spending: Spending, replay: Replay, tmp_path: Path, content: bytes, code: str
) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    said = replay(file, "--program", "points", "--accounts", "1", "--seed", "1", status=2)
    assert said["error"] == code


def test_what_is_not_there_is_named(spending: Spending, replay: Replay, tmp_path: Path) -> None:
    spending.accounts("a")
    file = trace(tmp_path / "t.csv", "2023-11-16 18:17:00,1,1")
    wish = ("--program", "points", "--accounts", "1", "--seed", "1")

    assert replay(tmp_path / "none.csv", *wish, status=2)["error"] == "file_unusable"
    assert replay(file, *wish, "--column-time", "when", status=2)["error"] == "missing_column"
    assert replay(file, *wish, "--speed", "fast", status=2)["error"] == "malformed"
    assert replay(file, "--program", "nix", *wish[2:], status=1)["error"] == "unknown_program"
    assert replay(file, *wish[:3], "2", *wish[4:], status=1)["error"] == "too_few_accounts"
