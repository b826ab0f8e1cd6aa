"""What was typed, before any command is called."""

from __future__ import annotations

import pytest

from jobs.errors import Malformed
from worker.cli.invocation import Invocation, checked
from worker.cli.parts import operator


@pytest.mark.parametrize(
    ("typed", "as_json", "rest"),
    [
        (["a", "b"], False, ["a", "b"]),
        (["--json", "a"], True, ["a"]),
        (["a", "b", "--json"], True, ["a", "b"]),
        (["a", "--", "--json"], False, ["a", "--", "--json"]),
        (["--json", "a", "--", "--json"], True, ["a", "--", "--json"]),
    ],
)
def test_json_is_taken_out_before_a_double_dash(typed: list[str], as_json: bool, rest: list[str]) -> None:
    assert Invocation.read(typed) == (Invocation(as_json), rest)


def test_a_byte_that_is_not_utf_8_is_named_with_its_place() -> None:
    checked(["grün", "5"])
    with pytest.raises(Malformed, match=r"argument 2 is not UTF-8: b'caf\\xe9'"):
        checked(["spend", b"caf\xe9".decode(errors="surrogateescape")])


def test_the_operator_is_whoever_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "ann")
    assert operator() == "operator:ann"
    monkeypatch.setenv("SUDO_USER", "bob")
    assert operator() == "operator:bob"
