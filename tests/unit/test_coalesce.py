"""Equal pokes within a moment are one, and what followed the first is never lost."""

from __future__ import annotations

from worker.coalesce import Coalescer


def test_the_first_is_passed_on_at_once() -> None:
    assert Coalescer(1.0).offer("publish", 10.0)


def test_those_that_follow_are_one_when_the_window_is_over() -> None:
    pokes = Coalescer(1.0)
    pokes.offer("publish", 10.0)
    assert [pokes.offer("publish", 10.0 + step / 10) for step in range(1, 5)] == [False] * 4
    assert pokes.due(10.9) == []
    assert pokes.due(11.0) == ["publish"]
    assert pokes.due(12.5) == []


def test_what_was_passed_on_late_opens_a_window_of_its_own() -> None:
    pokes = Coalescer(1.0)
    pokes.offer("publish", 10.0)
    pokes.offer("publish", 10.5)
    pokes.due(11.0)
    assert not pokes.offer("publish", 11.5)
    assert pokes.due(12.0) == ["publish"]


def test_different_pokes_do_not_wait_for_each_other() -> None:
    pokes = Coalescer(1.0)
    assert pokes.offer("evaluate 1", 10.0)
    assert pokes.offer("evaluate 2", 10.1)


def test_a_quiet_time_forgets_what_was_said() -> None:
    pokes = Coalescer(1.0)
    pokes.offer("publish", 10.0)
    assert pokes.due(20.0) == []
    assert pokes.offer("publish", 20.0)
    assert not pokes.is_waiting
