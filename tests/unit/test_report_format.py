"""Numbers, times and strings for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack.report.format import bytes_text, clock, count, duration, evidence_text, path_text, printable, sparkline


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 s"),
        (1_500, "1.5 us"),
        (999_400_000, "999 ms"),
        (250_000, "250 us"),
        (3_200_000, "3.2 ms"),
        (41_006_000_000, "41.0 s"),
        (59_990_000_000, "1 min"),
        (431_000_000_000, "7 min 11 s"),
        (7_200_000_000_000, "2 h"),
        (187_200_000_000_000, "2 d 4 h"),
        (-3_000_000_000, "-3.0 s"),
    ],
)
def test_duration(ns: int, text: str) -> None:
    assert duration(ns) == text


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_duration_is_short(ns: int) -> None:
    assert len(duration(ns)) <= len("-106,751 d 23 h")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (999_600, "1.00 MB"),
        (3_050_000_000, "3.05 GB"),
        (2**64, "18.4 EB"),
        (10**30, "1000000000000 EB"),
    ],
)
def test_bytes(number: int, text: str) -> None:
    assert bytes_text(number) == text


def test_count_and_clock() -> None:
    assert count(1, "connection") == "1 connection"
    assert count(1_234, "connection") == "1,234 connections"
    assert count(2, "box", "boxes") == "2 boxes"
    assert clock(1_763_726_595_999_999_999) == "12:03:15"
    assert clock(1_763_726_595_999_999_999, epoch=True) == "1763726595"


@given(st.text())
def test_printable_leaves_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode("utf-8")


def test_names_that_are_no_text_are_shown_byte_by_byte() -> None:
    assert printable("a\x1b[2J\udcff\n\u202e.pcap") == "a\\x1b[2J\\xff\\n\\u202e.pcap"
    assert path_text("a\udcff.pcap") == "a\\xff.pcap"


@given(st.lists(st.integers(0, 10**9), max_size=500), st.integers(1, 60), st.booleans())
def test_a_sparkline_fits_and_a_blank_is_zero(values: list[int], width: int, ascii_only: bool) -> None:
    line = sparkline(values, width, ascii_only=ascii_only)
    assert len(line) <= width
    assert (line == "") == (not any(values))
    if line and len(values) <= width:
        assert [bar == " " for bar in line] == [value == 0 for value in values]
    if ascii_only:
        assert line.isascii()


def test_a_sparkline_keeps_a_single_peak_whatever_its_width() -> None:
    values = [0] * 1000
    values[617] = 5
    assert sparkline(values, 10) == "      █   "


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("ports", [22318, 445], "22318, 445"),
        ("ports", 22318, "22,318"),  # how many
        ("server_port", 22318, "22318"),
        ("attempts", 22318, "22,318"),
    ],
)
def test_a_port_is_a_name_and_not_a_number(key: str, value: object, text: str) -> None:
    assert evidence_text(key, value, epoch=False)[1] == text


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("observed_s", 63, ("observed", "1 min 3 s")),
        ("rate_per_s", 12.5, ("rate", "12.5 a second")),
        ("descriptors_max", 20_000, ("descriptors max", "20,000")),
    ],
)
def test_a_name_without_an_entry_goes_without_its_unit(key: str, value: float, told: tuple[str, str]) -> None:
    assert evidence_text(key, value, epoch=False) == told


def test_a_clock_that_tells_the_day() -> None:
    at_ns = 1_700_000_000_000_000_000
    assert (clock(at_ns), clock(at_ns, day=True)) == ("22:13:20", "2023-11-14 22:13")
    assert clock(at_ns, epoch=True, day=True) == "1700000000"
