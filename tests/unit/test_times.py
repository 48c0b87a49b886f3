"""Instants as text and back: exact to the nanosecond, in both spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack.times import parse_duration, parse_length, parse_time, rfc3339, time_of_day, unix_seconds

ANY_TIME = st.integers(-(2**63) + 1, 2**63 - 1)


@given(ANY_TIME)
def test_rfc3339_is_read_back_to_the_nanosecond(ts_ns: int) -> None:
    assert parse_time(rfc3339(ts_ns)) == ts_ns


@given(ANY_TIME)
def test_unix_seconds_are_read_back_to_the_nanosecond(ts_ns: int) -> None:
    assert parse_time(unix_seconds(ts_ns)) == ts_ns


@pytest.mark.parametrize(
    ("text", "ts_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01", 0),
        ("1970-01-01 00:01", 60 * 10**9),
        ("1970-01-01T01:00:00.5+01:00", 5 * 10**8),
        ("1970-01-01T00:00:01,000000001z", 10**9 + 1),
        ("-0.000000001", -1),
        ("1763703480", 1763703480 * 10**9),
    ],
)
def test_spellings_of_a_time(text: str, ts_ns: int) -> None:
    assert parse_time(text) == ts_ns


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "12:03", "nan", "inf", "1e400", "9999-01-01", "1e300"])
def test_what_is_no_time_is_a_value_error_of_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'.*' is "):
        parse_time(text)


def test_duration_takes_seconds() -> None:
    assert parse_duration("1.5") == 1_500_000_000
    with pytest.raises(ValueError, match="not a number of seconds"):
        parse_duration("60s")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1.5", 1_500_000_000),
        ("250ms", 250_000_000),
        ("60s", 60 * 10**9),
        ("5min", 300 * 10**9),
        ("5 m", 300 * 10**9),
        ("2h", 7_200 * 10**9),
        ("0", 0),
    ],
)
def test_a_length_of_time_may_have_a_unit(text: str, ns: int) -> None:
    assert parse_length(text) == ns


@pytest.mark.parametrize("text", ["", "s", "-1", "1e3", "1.2.3", "1d", "1_000", "٣", "9" * 20 + "h"])
def test_what_is_no_length_of_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'.*' is "):
        parse_length(text)


@pytest.mark.parametrize(
    ("text", "ts_ns"),
    [
        ("00:00", 0),
        ("9:05", 32_700 * 10**9),
        ("23:59:59.999999999", 86_400 * 10**9 - 1),
        ("12:03:15,5", 43_395_5 * 10**8),
    ],
)
def test_a_time_of_day_is_on_the_day_of_an_instant(text: str, ts_ns: int) -> None:
    day_ns = 86_400 * 10**9
    assert time_of_day(text, 0) == ts_ns
    assert time_of_day(text, 3 * day_ns - 1) == 2 * day_ns + ts_ns
    assert time_of_day(text, -1) == ts_ns - day_ns


@pytest.mark.parametrize("text", ["", "24:00", "12", "12:60", "1970-01-01T12:00", "12:00Z", "-1:00"])
def test_what_is_no_time_of_day(text: str) -> None:
    assert time_of_day(text, 0) is None
