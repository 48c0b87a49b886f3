"""Takes segments from a capture in a thread of its own, so that whoever uses them may be busy, or wait for the time.

Owns the bound of what waits: MOST_WAITING segments. When they wait, the thread waits too, then the pipe and the
kernel's buffer fill, and the capturing program counts what it loses.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["MOST_WAITING", "Intake"]

Segments = np.ndarray[Any, Any]

MOST_WAITING = 1 << 20
"""Segments that wait at most: 100 MB, and five seconds at 200,000 a second: longer than a look at millions takes."""


class Intake:
    """Batches of segments, taken from `batches` as they come.

    Args:
        batches: SEGMENT_DTYPE, shape (n,) each, valid until the next is asked for; iterated in the thread.
    """

    def __init__(self, batches: Iterable[Segments]) -> None:
        self._batches = batches
        self._waiting: deque[Segments] = deque()
        self._rows = 0
        self._ended = False
        self._unwanted = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many segments were taken and not yet asked for."""
        return self._rows

    def take(self, timeout_s: float) -> Segments | None:
        """Return the next batch; None if none came within `timeout_s`, or there is none left (`ended`).

        Raises:
            Exception: what ended the capture, after everything that came before it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout_s)
            if self._waiting:
                segments = self._waiting.popleft()
                self._rows -= len(segments)
                self._changed.notify_all()
                return segments
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    @property
    def ended(self) -> bool:
        """Whether the capture has ended, and everything was taken: what ended it too."""
        with self._changed:
            return self._ended and not self._waiting and self._error is None

    def abandon(self, timeout_s: float) -> bool:
        """Let go of what waits; return whether the thread is done with the capture, within `timeout_s`."""
        with self._changed:
            self._unwanted = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for segments in self._batches:
                rows = segments.view(f"V{segments.itemsize}").copy().view(segments.dtype)  # as octets: 30 times faster
                with self._changed:
                    self._changed.wait_for(lambda: self._rows < MOST_WAITING or self._unwanted)
                    if self._unwanted:
                        break
                    self._waiting.append(rows)
                    self._rows += len(rows)
                    self._changed.notify_all()
        except BaseException as error:  # raised where it is waited for
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
