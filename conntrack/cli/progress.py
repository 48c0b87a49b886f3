"""A bar on standard error while a long capture is read: only on a terminal, and only after two seconds.

rich is imported when the bar is first drawn. Knows no capture: it is handed what was read so far.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from conntrack.cli.errors import watched

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Progress"]

_PATIENCE_S = 2.0
"""design.md: progress for anything over two seconds."""
_EVERY_S = 0.1


class Progress:
    """Draws how far reading has come, and what follows it; does nothing where nobody watches."""

    def __init__(self) -> None:
        self._watched = watched() and os.environ.get("TERM") != "dumb"
        self._next_s = time.monotonic() + _PATIENCE_S
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._reading = False

    def read(self, done_bytes: int, total_bytes: int | None, packets: int) -> None:
        """Show `done_bytes` of `total_bytes` (None where the input's length is not known) and `packets`."""
        self._show(done_bytes, total_bytes, f"reading, {packets:,} packets", reading=True)

    def followed(self, parts: int, of: int) -> None:
        """Show how many parts of the connections were followed, once all was read and set aside in parts."""
        self._show(parts, of, "following connections, by parts", reading=False)

    def _show(self, done: int, total: int | None, what: str, *, reading: bool) -> None:
        now_s = time.monotonic()
        if not self._watched or now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        if reading != self._reading:
            self.close()
            self._reading = reading
        if self._bar is None or self._task is None:
            self._bar, self._task = _draw(reading=reading)
        self._bar.update(self._task, completed=done, total=total, description=what)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _draw(*, reading: bool) -> tuple[Bar, TaskID]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        *((DownloadColumn(), TransferSpeedColumn()) if reading else (MofNCompleteColumn(),)),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.start()
    return bar, bar.add_task("", total=None)
