"""Columns of a terminal: wide, combining and hostile characters in what is shown never widen a page."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from conntrack.cli import main
from conntrack.cli.live_status import Status, screen
from conntrack.live import Session
from conntrack.report.cells import cells, cut, wrap

WORDS = st.lists(st.text("ab-.,:", min_size=1, max_size=30), max_size=12)
ANY = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=60)
COMMON = (
    "捕获ファイル.pcap",
    "Löschung",
    "e\u0301te\u0301.pcap",
    "🔥🔥 fire",
    "\uac00\uac01",
    "\uff46\uff55\uff4c\uff4c",
    "한글 파일",
)


@given(WORDS, st.sampled_from([" ", "  "]), st.integers(1, 40), st.sampled_from(["", "  "]))
def test_of_plain_text_it_is_textwrap(words: list[str], gap: str, width: int, indent: str) -> None:
    text = gap.join(words)
    width = max(width, len(gap) + len(indent) + 1)
    expected = textwrap.wrap(text, width, break_on_hyphens=False, subsequent_indent=indent)
    assert wrap(text, width, subsequent_indent=indent) == [line.rstrip() for line in expected]


@given(ANY, st.integers(2, 40))
def test_no_line_is_wider_and_nothing_but_spaces_is_lost(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cells(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(ANY, st.integers(0, 40))
def test_what_is_cut_fits(text: str, width: int) -> None:
    short = cut(text, width)
    assert cells(short) <= width
    assert short == text or short.endswith("..."[:width])


@pytest.mark.parametrize("text", COMMON)
def test_the_columns_are_those_of_rich(text: str) -> None:
    assert cells(text) == cell_len(text)


def test_a_combining_character_stays_with_its_letter() -> None:
    text = "e\u0301" * 5
    assert cells(text) == 5 and wrap(text, 2) == ["e\u0301" * 2, "e\u0301" * 2, "e\u0301"]
    assert unicodedata.combining(text[1])


@pytest.mark.parametrize("name", ["捕获文件" * 12, "e\u0301" * 80, "🔥 " * 50, "\uff46" * 41 + "\u202e\x1b[2J"])
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
