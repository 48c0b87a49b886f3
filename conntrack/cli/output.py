"""Where data goes: standard output, or the file of -o. Opens it, says what it can show, and picks the format.

A file is there under its name once it is whole (whole.py), and stays what it was when the command fails. The only place
that writes data. Notes and errors go to standard error (errors.py, progress.py).
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import click

from conntrack.cli.errors import STANDARD_OUTPUT
from conntrack.errors import ConntrackError, InputError
from conntrack.whole import WholeFile

__all__ = ["Output", "OutputError", "choose_format", "nobody_reads", "output_option"]

output_option = click.option(
    "-o",
    "--output",
    "output_path",
    metavar="FILE",
    type=click.Path(),
    help="Write to FILE instead of standard output; its suffix gives the format.",
)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputError(ConntrackError):
    """An output that cannot be written (exit code 2)."""


def choose_format(
    format_: str | None, output_path: str | None, suffixes: Mapping[str, str], *, terminal: str, piped: str
) -> str:
    """Return the format: as asked, else by the suffix of -o, else by whether a person reads standard output."""
    if format_ is not None:
        return format_
    if output_path is None or output_path == "-":
        return terminal if sys.stdout is not None and sys.stdout.isatty() else piped
    suffix = Path(output_path).suffix.lower()
    if suffix not in suffixes:
        raise OutputError(f"{output_path}: no format for '{suffix}'; use {', '.join(suffixes)}, or give --format")
    return suffixes[suffix]


def nobody_reads(path: str | None) -> bool:
    """Return whether data goes to standard output (`path` None or "-"), and whoever read it has gone, as head does."""
    if path not in (None, "-") or sys.stdout is None:
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # no file behind it: nothing can be known
        return False


class Output:
    """An open output of bytes; a context manager.

    Args:
        path: a file, or None or "-" for standard output.
        inputs: files that are being read, which must not be written over.

    Attributes:
        stream: what the bytes go to, for those who write on their own.
    """

    def __init__(self, path: str | None, inputs: Sequence[str] = ()) -> None:
        self._path = None if path in (None, "-") else path
        self._name = self._path or STANDARD_OUTPUT
        self._file: WholeFile | None = None
        if self._path is None:
            if sys.stdout is None:
                raise OutputError("standard output is closed; give -o FILE")
            self.stream: BinaryIO = sys.stdout.buffer
        else:
            for name in inputs:
                if (
                    name != "-"
                    and Path(self._path).exists()
                    and Path(name).exists()
                    and Path(self._path).samefile(name)
                ):
                    raise InputError(f"{self._path}: is the capture itself; give another name to -o")
            try:
                self._file = WholeFile(self._path)
            except OSError as error:
                raise OutputError(f"{self._path}: {(error.strerror or str(error)).lower()}") from None
            self.stream = self._file.stream

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it as it comes."""
        return self._path is None and self.stream.isatty()

    @property
    def encoding(self) -> str:
        """The encoding of text in it: the terminal's, or UTF-8 in a file."""
        return "utf-8" if self._path is not None else sys.stdout.encoding or "ascii"

    def shows(self, text: str) -> bool:
        """Return whether every character of `text` exists in the output's encoding."""
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True

    @property
    def color(self) -> bool:
        """Whether to colour: NO_COLOR (no-color.org) wins, then FORCE_COLOR, then whether it is a capable terminal."""
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return self.is_terminal and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """Columns of the terminal (COLUMNS overrules), 80 where there is none."""
        return shutil.get_terminal_size((80, 24)).columns if self.is_terminal or "COLUMNS" in os.environ else 80

    def write(self, data: bytes | memoryview) -> None:
        """Write `data`; OSError names the output, BrokenPipeError stays what it is."""
        try:
            self.stream.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name) from None

    def flush(self) -> None:
        """Hand on what was written so far: a reader that has seen enough can then say so."""
        self.stream.flush()

    def write_text(self, text: str) -> None:
        """Write `text` in the output's encoding; what it cannot show is written as an escape."""
        self.write(text.encode(self.encoding, "backslashreplace"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._file is not None:
            self._file.discard()
            if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
                error.filename = self._name  # from one who writes to the stream on its own
            return
        try:
            self.stream.flush() if self._file is None else self._file.finish()
        except BrokenPipeError:
            raise
        except OSError as failed:
            raise OSError(failed.errno, failed.strerror, self._name) from None
