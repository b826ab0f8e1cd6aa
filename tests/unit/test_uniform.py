"""Entries of one shape are read together with the same result as one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.spend import FIELDS, SpendEvent, read_event
from jobs.uniform import read_uniform

GOOD = [b"id", b"e-1", b"account", b"camp-1", b"amount", b"120"]
FULL = [
    *GOOD,
    b"at",
    b"2026-01-02T03:04:05Z",
    b"ref",
    b"r",
    b"memo",
    "größer".encode(),
    b"actor",
    b"a",
    b"new",
    b"\xff",
]


def one_by_one(entries: Sequence[Sequence[bytes]]) -> list[object]:
    return [read_event(dict(zip(entry[::2], entry[1::2], strict=True))) for entry in entries]


def test_entries_of_one_shape_are_read_together() -> None:
    other = [b"id", b"e-2", b"account", b"camp-2", b"amount", b"7"]
    assert read_uniform([GOOD, other]) == [SpendEvent("e-1", "camp-1", 120), SpendEvent("e-2", "camp-2", 7)]
    assert read_uniform([FULL]) == one_by_one([FULL])


def test_optional_fields_that_are_empty_are_absent() -> None:
    empty = [*GOOD, b"at", b"", b"ref", b"", b"memo", b"", b"actor", b"", b"wait_s", b""]
    full = [*GOOD, b"at", b"2026-01-02T03:04:05Z", b"ref", b"r", b"memo", b"m", b"actor", b"a", b"wait_s", b""]
    assert read_uniform([empty, full]) == one_by_one([empty, full])


@pytest.mark.parametrize(
    "other",
    [
        [],
        [b"id", b"e-2", b"account", b"camp-2"],
        [b"account", b"camp-2", b"id", b"e-2", b"amount", b"7"],
        [b"id", b"e-2", b"account", b"camp-2", b"amount", b"12.5"],
        [b"id", b"e-2", b"account", b"camp-2", b"amount", b"0"],
        [b"id", b"", b"account", b"camp-2", b"amount", b"1"],
        [b"id", b"nul\0", b"account", b"camp-2", b"amount", b"1"],
        [b"id", b"\xff", b"account", b"camp-2", b"amount", b"1"],
        [b"id", b"x" * 65, b"account", b"camp-2", b"amount", b"1"],
    ],
)
def test_one_that_is_not_plainly_right_leaves_all_to_be_read_one_by_one(other: list[bytes]) -> None:
    assert read_uniform([GOOD, other]) is None


def test_an_entry_with_a_field_twice_is_left_to_the_careful_reader() -> None:
    assert read_uniform([[*GOOD, b"amount", b"1"]]) is None


names = st.permutations(sorted(FIELDS)).flatmap(lambda known: st.integers(3, len(known)).map(lambda n: known[:n]))
values = (
    st.sampled_from(
        [b"", b"1", b"e-1", b"0", b"12", b"-1", b"\xff", b"a\0b", b"2026-01-02T03:04:05Z", "ß".encode() * 64]
    )
    | st.binary(max_size=70)
    | st.text(max_size=70).map(lambda text: text.encode(errors="replace"))
)


@given(st.data())
def test_the_result_is_that_of_reading_one_by_one(data: st.DataObject) -> None:
    shape = data.draw(names)
    good = dict(zip(FULL[::2], FULL[1::2], strict=True))
    filled = [data.draw(st.just(good.get(name, b"")) | values) for name in shape]
    entries = [[part for pair in zip(shape, filled, strict=True) for part in pair]]
    entries += data.draw(st.lists(st.just(entries[0]), max_size=3))
    together = read_uniform(entries)
    assert together is None or together == one_by_one(entries)
