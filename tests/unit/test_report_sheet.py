"""Sheets of text: nothing is wider than it may be, nothing is lost, and what is to stand in columns does."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from conntrack.cli import main
from conntrack.cli.live_status import Status, screen
from conntrack.live import Session
from conntrack.report.format import printable
from conntrack.report.sheet import Chart, Sheet, cut

WORDS = st.lists(st.text("ab-.,:", min_size=1, max_size=12), max_size=12)
ANY = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=60)


def wrapped(text: str, width: int, **options: int | str) -> list[str]:
    sheet = Sheet(width)
    sheet.wrap(text, **options)  # type: ignore[arg-type]
    return sheet.lines


@given(WORDS, st.sampled_from([" ", "  "]), st.integers(14, 40), st.sampled_from([0, 2]))
def test_of_plain_text_it_is_textwrap(words: list[str], gap: str, width: int, hang: int) -> None:
    text = gap.join(words)
    expected = textwrap.wrap(text, width, break_on_hyphens=False, subsequent_indent=" " * hang)
    assert wrapped(text, width, hang=hang) == ([line.rstrip() for line in expected] or [""])


@given(ANY, st.integers(3, 40), st.sampled_from([0, 1]))
@example("x" * 9 + "\u0301" * 3, 3, 1)
@example("捕 获文件 e\u0301te\u0301 한글한글", 3, 0)
def test_no_line_is_wider_and_nothing_but_spaces_is_lost(text: str, width: int, hang: int) -> None:
    lines = wrapped(text, width, hang=hang)
    assert max(map(cell_len, lines)) <= width
    assert "".join(lines).replace(" ", "") == printable(text).replace(" ", "")


def test_a_word_is_broken_only_where_no_line_has_room_for_it() -> None:
    assert wrapped("ab " + "x" * 12 + " cd", 5) == ["ab", "xxxxx", "xxxxx", "xx cd"]


def test_a_unit_stays_with_its_number() -> None:
    assert wrapped("x" * 54 + " 15.8 % of it", 60) == ["x" * 54, "15.8 % of it"]
    assert wrapped("x" * 54 + " 2 d 4 h", 60) == ["x" * 54, "2 d 4 h"]
    assert wrapped("x" * 52 + " 1 min 30 s.", 60) == ["x" * 52, "1 min 30 s."]
    assert wrapped("x" * 54 + " 15.8 people", 60) == ["x" * 54 + " 15.8", "people"]


def test_a_paragraph_is_no_wider_than_an_eye_follows() -> None:
    assert max(map(len, wrapped("word " * 100, 300))) <= 100


def test_a_label_stands_in_front_and_above_where_it_is_too_long() -> None:
    assert wrapped("a b", 60, indent=2, label="name", label_width=6) == ["  name  a b"]
    assert wrapped("a b", 60, indent=2, label="long name", label_width=6) == ["  long name", "        a b"]
    assert wrapped("a b", 60, label="文件", label_width=6) == ["文件  a b"]


def test_a_combining_character_stays_with_its_letter() -> None:
    assert wrapped("e\u0301" * 5, 2) == ["e\u0301" * 2, "e\u0301" * 2, "e\u0301"]


@given(ANY, st.integers(0, 40))
def test_what_is_cut_fits(text: str, width: int) -> None:
    short = cut(text, width)
    assert cell_len(short) <= width
    assert short == text or short.endswith("..."[:width])


def test_a_table_is_aligned_by_columns_of_the_terminal() -> None:
    sheet = Sheet(60)
    sheet.table([["", "n"], ["文件", "1"], ["e\u0301t", "1,234"], ["\x1b[31m", "[red]"]], notes=["", "note"])
    assert sheet.lines == [
        "                n", "  文件          1", "    note", "  e\u0301t        1,234", "  \\x1b[31m  [red]",
    ]  # fmt: skip


def test_charts_take_the_room_that_is_left() -> None:
    for width, bars in ((60, 60 - 9), (300, 200)):
        sheet = Sheet(width)
        sheet.table([["", ""], ["a", Chart([1.0] * 200)], ["b", Chart([0.0, 2.0], ascii_only=True)]], widths=[5])
        assert sheet.lines == ["", f"  a      {'█' * bars}", "  b       @"]


def test_colour_is_there_only_where_it_was_asked_for() -> None:
    plain, coloured = Sheet(60), Sheet(60, color=True)
    for sheet in (plain, coloured):
        sheet.wrap("red", style="critical")
        sheet.wrap("", style="critical")
    assert plain.text() == "red\n\n"
    assert coloured.text() == "\x1b[1;31mred\x1b[0m\n\n"


@pytest.mark.parametrize(
    "name",
    [
        "捕获文件" * 12,
        "e\u0301" * 80,
        "🔥 " * 50,
        "\uff46" * 41 + "\u202e\x1b[2J",
        "שלום" * 30,
        "[red]:boom: [bold]" * 6,
    ],
)
def test_a_file_name_does_not_widen_any_page(
    root: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, snapshot = tmp_path / f"{name}.pcap", tmp_path / f"{name}.txt"
    captures = root / "tests" / "captures"
    shutil.copy(captures / "incident.pcap", path)
    shutil.copy(captures / "incident_ss.txt", snapshot)
    compared = ["--with", str(snapshot), "--at", "06:15:20", "--format", "table"]
    for words in (["report"], ["info"], ["explain", "--flow", "4"], ["compare", *compared]):
        assert main([*words, str(path)]) == 0
        out = capsys.readouterr().out
        assert max(map(cell_len, out.splitlines())) <= 80, words
        assert "\u202e" not in out and "\x1b" not in out


def test_a_wide_name_does_not_widen_the_screen() -> None:
    status = Status(Session().look(), source="捕获文件" * 20, running_s=1.0, window_s=300.0)
    lines = screen(status, 80, 24)
    assert cell_len(lines[0]) in (79, 80) and lines[0].endswith("...")
