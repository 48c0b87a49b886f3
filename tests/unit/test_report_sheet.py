"""Sheets of text: nothing is wider than it may be, nothing is lost, nothing from outside is obeyed."""

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
from conntrack.report.sheet import Chart, Sheet

WORDS = st.lists(st.text("ab-.,:", min_size=1, max_size=12), max_size=12)
ANY = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=60)
CELLS = st.just("") | ANY.map("x".__add__)


def lines(sheet: Sheet) -> list[str]:
    *all_, after = sheet.text().split("\n")
    assert after == ""
    return all_


def wrapped(text: str, width: int, front: str = "") -> list[str]:
    sheet = Sheet(width)
    sheet.wrap(text, front=front)
    return lines(sheet)


@given(WORDS, st.sampled_from([" ", "  "]), st.integers(14, 40), st.sampled_from(["", "- "]))
def test_of_plain_text_it_is_textwrap(words: list[str], gap: str, width: int, front: str) -> None:
    text = gap.join(words)
    expected = textwrap.wrap(text, width - len(front), break_on_hyphens=False)
    first, *rest = [line.rstrip() for line in expected] or [""]
    assert wrapped(text, width, front) == [(front + first).rstrip(), *(" " * len(front) + line for line in rest)]


@given(ANY, st.integers(3, 40), st.sampled_from(["", "-"]))
@example("x" * 9 + "\u0301" * 3, 3, "-")
@example("捕 获文件 e\u0301te\u0301 한글한글", 3, "")
@example("[bold]x[/] :smile: https://x.example 1.5 'a' None", 20, "")
def test_no_line_is_wider_and_nothing_but_spaces_is_lost(text: str, width: int, front: str) -> None:
    found = wrapped(text, width, front)
    assert max(map(cell_len, found)) <= width
    assert "".join(found).replace(" ", "") == front + printable(text).replace(" ", "")


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4), st.integers(20, 60))
def test_a_table_of_words_is_no_wider_and_nothing_but_spaces_is_lost(rows: list[tuple[str, str]], width: int) -> None:
    sheet = Sheet(width)
    sheet.table(["", ""], rows, numbers=False)
    found = lines(sheet)
    assert max(map(cell_len, found)) <= width
    assert sorted("".join(found).replace(" ", "")) == sorted(printable("".join(map("".join, rows))).replace(" ", ""))


def test_a_word_is_broken_only_where_no_line_has_room_for_it() -> None:
    assert wrapped("ab " + "x" * 12 + " cd", 5) == ["ab", "xxxxx", "xxxxx", "xx cd"]


def test_a_unit_stays_with_its_number() -> None:
    assert wrapped("x" * 54 + " 15.8 % of it", 60) == ["x" * 54, "15.8 % of it"]
    assert wrapped("x" * 54 + " 2 d 4 h", 60) == ["x" * 54, "2 d 4 h"]
    assert wrapped("x" * 52 + " 1 min 30 s.", 60) == ["x" * 52, "1 min 30 s."]
    assert wrapped("x" * 54 + " 15.8 people", 60) == ["x" * 54 + " 15.8", "people"]


def test_a_paragraph_is_no_wider_than_an_eye_follows() -> None:
    assert max(map(len, wrapped("word " * 100, 300))) <= 100


def test_names_stand_before_their_values_and_are_broken_where_they_are_too_long() -> None:
    sheet = Sheet(60)
    rows = [("name", "a " + "b" * 47), ("long name", "c"), ("文件", "d")]
    sheet.table(["", ""], rows, numbers=False, indent=4, widths=[6])
    assert lines(sheet) == ["    name    a", " " * 12 + "b" * 47, "    long    c", "    name", "    文件    d"]


def test_a_combining_character_stays_with_its_letter() -> None:
    assert wrapped("e\u0301" * 5, 2) == ["e\u0301" * 2, "e\u0301" * 2, "e\u0301"]


@given(ANY, st.integers(2, 40))
def test_what_is_cut_fits_and_says_so(text: str, width: int) -> None:
    sheet = Sheet(width)
    sheet.add(text)
    (line,) = lines(sheet)
    assert cell_len(line) <= width
    assert line == printable(text).rstrip() or line.endswith("…")


def test_a_table_is_aligned_by_columns_of_the_terminal() -> None:
    sheet = Sheet(60)
    sheet.table(["", "n"], [["文件", "1"], ["e\u0301t", "1,234"], ["\x1b[31m", "[red]"]])
    assert lines(sheet) == [
        "                n", "  文件          1", "  e\u0301t        1,234", "  \\x1b[31m  [red]",
    ]  # fmt: skip


def test_charts_take_the_room_that_is_left() -> None:
    for width, bars in ((60, 60 - 9), (300, 200)):
        sheet = Sheet(width)
        sheet.table(["", ""], [["a", Chart([1.0] * 200)], ["b", Chart([0.0, 2.0], ascii_only=True)]], widths=[5])
        assert lines(sheet) == [f"  a      {'█' * bars}", "  b       @"]


@pytest.mark.parametrize(
    "environment",
    [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}, {"TERM": "dumb", "COLUMNS": "5"}, {"TTY_COMPATIBLE": "1"}],
)
def test_colour_is_there_only_where_it_was_asked_for(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment asks for is decided once, by cli/output.py: rich must not ask again."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plain, coloured = Sheet(60), Sheet(60, color=True)
    for sheet in (plain, coloured):
        sheet.wrap("red", style="critical")
        sheet.wrap("", style="critical")
        sheet.table(["h", "n"], [["a", "1"]])
    assert plain.text() == "red\n\n  h  n\n  a  1\n"
    assert coloured.text() == "\x1b[1;31mred\x1b[0m\n\n  \x1b[1mh\x1b[0m  \x1b[1mn\x1b[0m\n  a  1\n"


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
    first = screen(status, 80, 24)[0]
    assert cell_len(first) in (79, 80) and first.endswith("…")
