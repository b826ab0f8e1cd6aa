"""What the command line says: answers, and errors without a traceback."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import psycopg
import psycopg.errors
import pytest
import redis.exceptions

from config.settings import SettingsError, SettingsFault
from jobs.errors import InsufficientCredit, InvalidProgram
from worker.console import Column, Printer
from worker.failures import failure_of

COLUMNS = (Column("account", "Account"), Column("balance", "Balance", "right"))
ROW = {
    "account": "acme",
    "balance": 12345,
    "at": datetime(2026, 3, 1, 10, 30, tzinfo=timezone(timedelta(hours=1))),
    "rate": Decimal("1.20"),
    "id": UUID(int=3),
}

Captured = pytest.CaptureFixture[str]


def test_json_is_one_object_per_row_with_every_field(capsys: Captured) -> None:
    Printer(as_json=True).rows(COLUMNS, [ROW, {"account": "b"}], title="Accounts")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "account": "acme",
        "balance": 12345,
        "at": "2026-03-01T09:30:00Z",
        "rate": "1.20",
        "id": "00000000-0000-0000-0000-000000000003",
    }
    assert second == {"account": "b"}


def test_people_get_the_columns_in_full_also_in_a_pipe(capsys: Captured) -> None:
    Printer().rows(COLUMNS, [ROW | {"account": "a" * 300}], title="Accounts")
    out = capsys.readouterr().out
    for text in ("Accounts", "Account", "Balance", "12,345", "a" * 300):
        assert text in out
    assert "1.20" not in out


def test_nothing_from_outside_steers_the_terminal_or_the_markup(capsys: Captured) -> None:
    Printer().rows(COLUMNS, [{"account": "[red]x\x1b[2J", "balance": None}])
    Printer().done("done [b]x\x1b[2J", {})
    out = capsys.readouterr().out
    assert "[red]x\\x1b[2J" in out
    assert "done [b]x\\x1b[2J" in out
    assert "\x1b" not in out


def test_where_there_is_nothing_people_are_told_and_programs_get_nothing(capsys: Captured) -> None:
    Printer().rows(COLUMNS, [], empty="There are no accounts yet.")
    assert capsys.readouterr() == ("", "There are no accounts yet.\n")
    Printer(as_json=True).rows(COLUMNS, [], empty="There are no accounts yet.")
    assert capsys.readouterr() == ("", "")


def test_one_thing_is_one_object_or_its_fields(capsys: Captured) -> None:
    Printer(as_json=True).record({"auto_recharge": True, "card": None})
    assert json.loads(capsys.readouterr().out) == {"auto_recharge": True, "card": None}
    Printer().record({"auto_recharge": True, "card": None})
    out = capsys.readouterr().out
    assert out.split() == ["auto", "recharge", "yes"]


def test_notes_never_mix_with_answers(capsys: Captured) -> None:
    Printer().note("Look here.")
    Printer(as_json=True).note("Look here.")
    assert capsys.readouterr() == ("", "Look here.\n")


def test_an_error_is_a_sentence_with_its_code(capsys: Captured) -> None:
    assert Printer().failure(InsufficientCredit()) == 1
    assert capsys.readouterr() == ("", "error: The balance does not cover the amount. [insufficient_credit]\n")


def test_an_error_for_programs_has_its_code_sentence_and_details(capsys: Captured) -> None:
    refusal = InsufficientCredit("Too little.", required=5, available=2, shortfall=10**30, error="x")
    assert Printer(as_json=True).failure(refusal) == 1
    out, err = capsys.readouterr()
    assert out == ""
    told = {"error": "insufficient_credit", "message": "Too little."}
    assert json.loads(err) == told | {"required": 5, "available": 2, "shortfall": 10**30}


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (InsufficientCredit(), "insufficient_credit", 1),
        (InvalidProgram(), "invalid_program", 2),
        (SettingsError([SettingsFault("A", None, "is needed")]), "bad_settings", 2),
        (psycopg.OperationalError("connection failed"), "database_unavailable", 1),
        (psycopg.errors.AdminShutdown("terminating connection"), "database_unavailable", 1),
        (psycopg.errors.QueryCanceled("timeout"), "database_error", 1),
        (psycopg.errors.UndefinedTable("no relation"), "schema_outdated", 2),
        (redis.exceptions.ConnectionError("refused"), "redis_unavailable", 1),
        (redis.exceptions.TimeoutError("slow"), "redis_unavailable", 1),
        (OSError(errno.EADDRINUSE, "Address already in use"), "port_in_use", 2),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.toml"), "file_unusable", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (KeyError("x"), "internal_error", 1),
    ],
)
def test_every_exception_has_a_code_and_a_status(error: BaseException, code: str, status: int) -> None:
    failure = failure_of(error)
    assert (failure.code, failure.exit_status) == (code, status)
    assert failure.message


def test_what_nobody_foresaw_is_told_with_its_place_and_without_a_traceback_or_secret(capsys: Captured) -> None:
    try:
        raise RuntimeError("password=hunter2 is wrong\nmore")
    except RuntimeError as error:
        Printer().failure(error)
    err = capsys.readouterr().err
    assert "test_console.py line" in err
    assert "hunter2" not in err
    assert len(err.splitlines()) == 1


def test_a_stop_from_the_keyboard_is_no_error_for_people(capsys: Captured) -> None:
    assert Printer().failure(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "")


def test_times_are_shown_in_utc_to_the_second(capsys: Captured) -> None:
    Printer().record({"at": datetime(2026, 3, 1, 9, 30, 0, 123, tzinfo=UTC)})
    assert "2026-03-01 09:30:00Z" in capsys.readouterr().out
