"""conntrack/whole.py: a file takes its place when it is finished; before, and after a failure, there is what was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conntrack.whole import WholeFile


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("keep", [False, True])
def test_it_takes_its_place_when_it_is_finished(keep: bool, tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_bytes(b"before")
    place.chmod(0o640)
    file = WholeFile(str(place), keep=keep)
    file.stream.write(b"after")
    assert place.read_bytes() == b"before"
    file.finish()
    assert (names(tmp_path), place.read_bytes(), place.stat().st_mode & 0o777) == (["a"], b"after", 0o640)


def test_what_is_discarded_is_gone_unless_it_is_kept(tmp_path: Path) -> None:
    WholeFile(str(tmp_path / "a")).discard()
    assert names(tmp_path) == []
    for _ in range(3):
        WholeFile(str(tmp_path / "a"), keep=True).discard()
    assert names(tmp_path) == ["a.2.part", "a.3.part", "a.part"]


def test_a_device_is_written_as_it_is() -> None:
    for keep in (False, True):
        for end in (WholeFile.finish, WholeFile.discard):
            file = WholeFile(os.devnull, keep=keep)
            file.stream.write(b"x")
            end(file)
            assert (file.path, file.stream.closed) == (os.devnull, True)
    assert not Path(os.devnull).is_file()


def test_one_that_may_not_be_written_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder would allow it."""
    place = tmp_path / "a"
    place.write_bytes(b"before")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may
    with pytest.raises(PermissionError) as caught:
        WholeFile(str(place))
    assert (caught.value.filename, names(tmp_path)) == (str(place), ["a"])


def test_one_in_no_folder_is_told_by_the_name_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        WholeFile(str(tmp_path / "none" / "a"))
    assert caught.value.filename == str(tmp_path / "none" / "a")


@pytest.mark.parametrize("keep", [False, True])
def test_a_failure_at_the_end_leaves_what_was(keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a"
    place.write_bytes(b"before")

    def fail(_: int) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", fail)
    file = WholeFile(str(place), keep=keep)
    file.stream.write(b"after")
    with pytest.raises(OSError, match="full"):
        file.finish()
    assert place.read_bytes() == b"before"
    assert names(tmp_path) == (["a", "a.part"] if keep else ["a"])
