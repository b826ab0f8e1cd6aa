"""What a stream entry must say to be a spend event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.spend import AMOUNT_MAX, FIELDS, Malformation, SpendEvent, read_event, read_timestamp

GOOD = {b"id": b"e-1", b"account": b"camp-1", b"amount": b"120"}


def reason(**fields: bytes | None) -> str:
    """The reason why the good event with these fields changed, or left out, cannot be read."""
    changed = {**GOOD, **{name.encode(): value for name, value in fields.items() if value is not None}}
    for name, value in fields.items():
        if value is None:
            del changed[name.encode()]
    result = read_event(changed)
    return result.reason if isinstance(result, Malformation) else "read"


def test_three_fields_are_an_event() -> None:
    assert read_event(GOOD) == SpendEvent("e-1", "camp-1", 120)


def test_every_optional_field_is_kept() -> None:
    event = read_event(
        GOOD | {b"at": b"2026-01-02T03:04:05.678Z", b"ref": b"r", b"memo": "größer".encode(), b"actor": b"a"}
    )
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert event == SpendEvent("e-1", "camp-1", 120, moment, "r", "größer", "a")


def test_an_empty_optional_field_is_an_absent_one() -> None:
    empty = {b"at": b"", b"ref": b"", b"memo": b"", b"actor": b"", b"wait_s": b""}
    assert read_event(GOOD | empty) == read_event(GOOD)


def test_an_unknown_field_does_not_lose_the_event() -> None:
    assert read_event(GOOD | {b"trace_id": b"\xff"}) == read_event(GOOD)


def test_a_wish_to_wait_is_read_and_changes_nothing_yet() -> None:
    assert read_event(GOOD | {b"wait_s": b"30"}) == read_event(GOOD)


@pytest.mark.parametrize("name", ["id", "account", "amount"])
def test_the_three_fields_are_needed(name: str) -> None:
    assert reason(**{name: None}) == "missing_field"


@pytest.mark.parametrize(
    "amount",
    ["12.5", "-5", "0", "00", "1" + "0" * 30, "9" * 5_000, "+5", " 5", "5 ", "1_000", "1e3", "٣", "\uff15", "", "0x10",
     str(AMOUNT_MAX + 1)],
)  # fmt: skip
def test_an_amount_is_a_whole_number_of_ascii_digits(amount: str) -> None:
    assert reason(amount=amount.encode()) == "bad_amount"


@pytest.mark.parametrize("amount", ["1", "007", str(AMOUNT_MAX)])
def test_an_amount_may_be_anything_that_the_ledger_holds(amount: str) -> None:
    event = read_event(GOOD | {b"amount": amount.encode()})
    assert isinstance(event, SpendEvent)
    assert event.amount == int(amount)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"id": b""}, "bad_id"),
        ({"id": b"x" * 64}, "read"),
        ({"id": b"x" * 65}, "bad_id"),
        ({"id": "ü".encode() * 64}, "read"),
        ({"id": b"a\0b"}, "nul_byte"),
        ({"id": b"\xff"}, "not_utf8"),
        ({"account": b""}, "bad_account"),
        ({"account": b"x" * 65}, "bad_account"),
        ({"account": b"a\0"}, "nul_byte"),
        ({"account": b"\xc3"}, "not_utf8"),
        ({"account": b"\xed\xa0\x80"}, "not_utf8"),  # a lone surrogate
        ({"memo": b"x" * 500}, "read"),
        ({"memo": b"x" * 501}, "text_too_long"),
        ({"ref": b"\0"}, "nul_byte"),
        ({"actor": b"\x80"}, "not_utf8"),
        ({"at": b"\x80"}, "not_utf8"),
        ({"wait_s": b"0"}, "read"),
        ({"wait_s": b"-1"}, "bad_wait_s"),
        ({"wait_s": b"1.5"}, "bad_wait_s"),
        ({"wait_s": b"9" * 20}, "bad_wait_s"),
        ({"wait_s": b"soon"}, "bad_wait_s"),
        ({"at": b"yesterday"}, "bad_at"),
    ],
)
def test_each_fault_has_its_reason(fields: dict[str, bytes], expected: str) -> None:
    assert reason(**fields) == expected


@pytest.mark.parametrize(
    "text",
    ["2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04Z", "2026-13-02T03:04:05Z", "2026-02-30T03:04:05Z",
     "2026-W01-1T00:00:00Z", "2026-01-02T24:00:01Z", "2026-01-02T03:04:60Z", "1969-12-31T23:59:59Z",
     "2200-01-01T00:00:00Z", "2026-01-02T03:04:05+0100", "2026-01-02T03:04:05+25:00", "1767323045",
     "\uff12026-01-02T03:04:05Z", "2026-01-02T03:04:05Z\n", "2026-01-02T03:04:05.Z"],
)  # fmt: skip
def test_a_time_must_be_rfc_3339_with_a_zone(text: str) -> None:
    assert read_timestamp(text) is None


def test_times_of_other_zones_and_finer_clocks_are_read() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
    assert read_timestamp("2026-01-02T04:04:05.123456789+01:00") == moment
    assert read_timestamp("2026-01-02t03:04:05.123456z") == moment
    assert read_timestamp("2026-01-02 03:04:05.123456Z") == moment


@given(
    st.integers(min_value=31_536_000, max_value=7_226_582_400).map(lambda s: datetime.fromtimestamp(s + 0.25, UTC)),
    st.integers(min_value=-23 * 60, max_value=23 * 60),
)
def test_a_time_that_python_writes_is_read_as_the_same_moment(utc: datetime, offset_minutes: int) -> None:
    local = utc + timedelta(minutes=offset_minutes)
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    text = f"{local.replace(tzinfo=None).isoformat(timespec='microseconds')}{sign}{hours:02}:{minutes:02}"
    assert read_timestamp(text) == utc


names = st.sampled_from(sorted(FIELDS)) | st.binary(max_size=8)


@given(st.dictionaries(names, st.binary(max_size=80) | st.sampled_from([b"1", b"e-1"])))
def test_no_bytes_break_the_reader_and_what_it_reads_can_be_posted(fields: dict[bytes, bytes]) -> None:
    result = read_event(fields)
    if isinstance(result, Malformation):
        assert result.detail.isprintable()
        return
    assert 1 <= len(result.event_id) <= 64
    assert 1 <= len(result.account) <= 64
    assert 0 < result.amount <= AMOUNT_MAX
    assert all("\0" not in text for text in (result.event_id, result.account, result.ref or "", result.memo or ""))
    assert result.spent_at is None or result.spent_at.tzinfo is not None


@given(
    st.integers(min_value=1, max_value=AMOUNT_MAX), st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=64)
)
def test_what_upstream_states_is_what_is_read(amount: int, event_id: str, account: str) -> None:
    if "\0" in event_id + account or any("\ud800" <= letter <= "\udfff" for letter in event_id + account):
        return
    fields = {b"id": event_id.encode(), b"account": account.encode(), b"amount": str(amount).encode()}
    assert read_event(fields) == SpendEvent(event_id, account, amount)
