"""Reading a snapshot from a file: which form it has, told by its first line, and the bounds of what is read.

Every line is hostile: what does not fit the form is counted by reason and left out, lines are cut at MOST_LINE_BYTES,
and no more than MOST_ROWS are kept. A file of which nothing fits is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from conntrack.compare.model import Snapshot
from conntrack.compare.netfilter import is_netfilter, take_netfilter
from conntrack.compare.socket_lines import is_socket_line, take_socket_line
from conntrack.compare.ss import take_ss
from conntrack.errors import InputError

__all__ = ["MOST_LINE_BYTES", "MOST_ROWS", "read_snapshot"]

MOST_LINE_BYTES = 1 << 16
MOST_ROWS = 1 << 20
"""Sockets or entries that are kept: a few hundred megabytes."""

_FORMS: tuple[tuple[str, Callable[[str], bool], Callable[[str, Snapshot], None]], ...] = (
    ("ndjson", is_socket_line, take_socket_line),
    ("conntrack", is_netfilter, take_netfilter),
    ("ss", lambda line: True, take_ss),
)


def read_snapshot(path: str) -> Snapshot:
    """Return what is in the file at `path` ("-" for standard input).

    Raises:
        InputError: it cannot be read, or holds no socket in any form that is known.
    """
    name = "standard input" if path == "-" else path
    snapshot = Snapshot(name, "")
    take: Callable[[str, Snapshot], None] | None = None
    with _opened(path) as file:
        for line in _lines(file, snapshot):
            if take is None:
                snapshot.form, _, take = next(form for form in _FORMS if form[1](line))
            if len(snapshot.sockets) + len(snapshot.entries) >= MOST_ROWS:
                snapshot.skip(f"beyond the first {MOST_ROWS:,}")
                continue
            take(line, snapshot)
    if not snapshot.sockets and not snapshot.entries and not snapshot.listening:
        why = next(iter(snapshot.skipped), "it is empty")
        raise InputError(
            f"{name}: no TCP socket in it ({why}); give the output of 'ss -tan', of 'ctrack sockets --format ndjson', "
            "or of 'conntrack -L'"
        )
    return snapshot


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; check the name of --with") from None


def _lines(file: BinaryIO, snapshot: Snapshot) -> Iterator[str]:
    while line := file.readline(MOST_LINE_BYTES):
        if len(line) == MOST_LINE_BYTES and not line.endswith(b"\n"):
            snapshot.skip("a line that is too long")
            while (rest := file.readline(MOST_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            continue
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            yield text
