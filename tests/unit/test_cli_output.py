"""conntrack/cli/output.py: formats by name and suffix, colours, and what a failing output is called."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from conntrack.cli import main
from conntrack.cli.output import Output, OutputError, choose_format, nobody_reads
from conntrack.errors import InputError

SUFFIXES = {".csv": "csv", ".json": "json"}
INCIDENT = str(Path(__file__).parent.parent / "captures" / "incident.pcap")


class Terminal(io.TextIOWrapper):
    """One that a person looks at."""

    def __init__(self) -> None:
        super().__init__(type("Raw", (io.BytesIO,), {"isatty": lambda _: True})(), "utf-8")


def be_terminal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def chosen(format_: str | None, path: str | None) -> str:
    return choose_format(format_, path, SUFFIXES, terminal="table", piped="tsv")


def test_the_format_is_what_was_asked_for_then_the_suffix_then_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    be_terminal(monkeypatch)
    assert chosen("json", "a.csv") == "json"
    assert chosen(None, "a.CSV") == "csv"
    assert chosen(None, None) == chosen(None, "-") == "table"
    with pytest.raises(OutputError, match=r"^a\.xls: no format for '\.xls'; use \.csv, \.json, or give --format$"):
        chosen(None, "a.xls")


def test_without_a_person_it_is_the_piped_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    assert chosen(None, None) == "tsv"
    monkeypatch.setattr(sys, "stdout", None)
    assert chosen(None, None) == "tsv"


@pytest.mark.parametrize(
    ("variables", "colour"),
    [
        ({}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        ({"NO_COLOR": ""}, True),
    ],
)
def test_colour(variables: dict[str, str], colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    be_terminal(monkeypatch, **variables)
    assert Output(None).color is colour


def test_a_closed_standard_output_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert not nobody_reads(None)
    with pytest.raises(OutputError, match=r"^standard output is closed; give -o FILE$"):
        Output(None)


def test_the_capture_itself_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match="is the capture itself"):
        Output(str(path), ("-", str(tmp_path / "none"), str(path)))
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_has_the_name_of_the_output(number: int, tmp_path: Path) -> None:
    """Also where somebody writes to the stream by himself; nothing is left there."""
    path = tmp_path / "a"
    with pytest.raises(OSError) as caught, Output(str(path)):
        raise OSError(number, os.strerror(number))
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert list(tmp_path.iterdir()) == []


def test_what_fails_for_another_reason_keeps_its_name(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "full", "another"), OSError(errno.EIO, "broken"), ValueError()):
        before = getattr(error, "filename", None)
        with pytest.raises(type(error)) as caught, Output(str(tmp_path / "a")):
            raise error
        assert getattr(caught.value, "filename", None) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--format", "html", INCIDENT], ["--format", "html", "-o", "-", INCIDENT]])
def test_a_page_is_not_written_to_a_terminal(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = be_terminal(monkeypatch)
    assert main(["report", *arguments]) == 2
    assert stream.buffer.getvalue() == b""  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flows", INCIDENT, "--format", "arrow"], "--format arrow: is no text; give -o FILE, or pipe it on"),
        (["generate", "-", "--connections", "3"], "a capture is nothing for a terminal; name a file, or pipe it"),
    ],
)
def test_bytes_are_not_written_to_a_terminal(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = be_terminal(monkeypatch)
    assert main(arguments) == 2
    assert stream.buffer.getvalue() == b""  # type: ignore[attr-defined]
    assert capfd.readouterr().err.startswith(f"ctrack: {said}")


def test_completion_knows_commands_and_files(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_CTRACK_COMPLETE", "bash_source")
    assert main([]) == 0
    assert "_CTRACK_COMPLETE=bash_complete" in capfd.readouterr().out
    monkeypatch.setenv("_CTRACK_COMPLETE", "bash_complete")
    for words, at, found in (
        ("ctrack fl", "1", {"plain,flows", "file,fl"}),
        ("ctrack --ver", "1", {"plain,--version"}),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", at)
        assert main([]) == 0
        assert set(capfd.readouterr().out.split()) == found
