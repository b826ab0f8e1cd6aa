"""What supervised processes print, as a machine and as a person get it."""

from __future__ import annotations

import io
import json

from worker.output import Lines, Output


def _passed_on(chunks: list[bytes], readable: bool = False) -> list[str]:
    stream = io.StringIO()
    lines = Lines("intake", Output(readable, stream))
    for chunk in chunks:
        lines.add(chunk)
    lines.finish()
    return stream.getvalue().splitlines()


def _texts(chunks: list[bytes]) -> list[str]:
    return [json.loads(line)["line"] for line in _passed_on(chunks)]


def test_a_json_line_is_passed_on_untouched() -> None:
    assert _passed_on([b'{"event": "a.b",  "n":1}\n']) == ['{"event": "a.b",  "n":1}']


def test_any_other_line_becomes_an_event() -> None:
    (line,) = _passed_on([b"Traceback\n"])
    event = json.loads(line)
    assert (event["event"], event["process"], event["line"]) == ("process.printed", "intake", "Traceback")
    assert event["timestamp"]


def test_lines_are_put_together_from_pieces() -> None:
    assert _texts([b"one\ntw", b"o\nth", b"ree"]) == ["one", "two", "three"]


def test_a_line_without_end_is_cut() -> None:
    assert [len(text) for text in _texts([b"x" * 40_000] * 3)] == [80_000, 40_000]


def test_a_person_sees_who_spoke() -> None:
    (line,) = _passed_on([b"hello\n"], readable=True)
    assert line.endswith("m hello")
    assert "intake    |" in line
