"""The array of segments being filled, and the tallies of everything seen on the way.

Owns the memory that the kernels of core.walk write into. Knows no file and no format. Read core/walk.pyx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from conntrack.capture.paths import Paths
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.decode import Outcome
from conntrack.core.walk import LAST_TIME_NS, N_OUTCOMES, NO_TIME_NS, TALLY_DTYPE

if TYPE_CHECKING:
    from conntrack.capture.filter import Filter
    from conntrack.capture.interfaces import Interface

__all__ = ["Batch", "Reader"]


class Batch:
    """One reusable array of segments, how many of its rows are filled, and the tallies over all inputs.

    Args:
        capacity: rows of `segments`.
        filter: what frames must pass to be decoded (capture.filter), None for all.
        paths: shared by all batches of a capture; own ones if there are none.
        notes: where readers add theirs; an own list if there is none.

    Attributes:
        segments: SEGMENT_DTYPE, shape (capacity,).
        rows: rows of it that are filled.
        tally: TALLY_DTYPE, shape (1,): frames, inversions, earliest and latest time.
        counts: uint64, shape (N_OUTCOMES,): frames by core.decode.Outcome.
        paths: the outer paths of the segments, and the IP packets that are being put together.
        notes: what readers had to assume, one line each.
    """

    def __init__(
        self, capacity: int, filter: Filter | None = None, paths: Paths | None = None, notes: list[str] | None = None
    ) -> None:
        self.filter = filter
        self.paths = Paths() if paths is None else paths
        self.notes: list[str] = [] if notes is None else notes
        self.segments: npt.NDArray[np.void] = np.zeros(capacity, SEGMENT_DTYPE)
        self.rows = 0
        self.tally: npt.NDArray[np.void] = np.zeros(1, TALLY_DTYPE)
        self.counts: npt.NDArray[np.uint64] = np.zeros(N_OUTCOMES, np.uint64)
        self._frames, self._inversions, self._first_ts_ns, self._last_ts_ns = (
            self.tally[field] for field in ("frames", "inversions", "first_ts_ns", "last_ts_ns")
        )
        self.reset()

    def reset(self) -> None:
        """Forget everything that was seen."""
        self.rows = 0
        self.counts[:] = 0
        self.tally[:] = 0
        self.tally["first_ts_ns"] = LAST_TIME_NS
        self.tally["last_ts_ns"] = -LAST_TIME_NS
        self.begin_file()

    def begin_file(self) -> None:
        """Forget the time of the frame before: order is judged within a file."""
        self.tally["previous_ts_ns"] = NO_TIME_NS

    def begin_frame(self, ts_ns: int) -> None:
        """Count a frame that no kernel walks, with its time; then add its segment, or count why there is none."""
        ts_ns = max(-LAST_TIME_NS, min(ts_ns, LAST_TIME_NS))
        tally = self.tally[0]
        tally["frames"] += 1
        if ts_ns < tally["previous_ts_ns"]:
            tally["inversions"] += 1
        tally["previous_ts_ns"] = ts_ns
        tally["first_ts_ns"] = min(ts_ns, tally["first_ts_ns"])
        tally["last_ts_ns"] = max(ts_ns, tally["last_ts_ns"])

    def add_segment(self, source: bytes, target: bytes, *fields: int) -> None:
        """Fill the next row with the segment of the frame begun last; there is room for it.

        Args:
            source: address of the sender, 16 bytes.
            target: address of the receiver.
            fields: the rest of SEGMENT_DTYPE in its order, from seq to options; tag and path are 0.
        """
        tally = self.tally[0]
        when = int(tally["previous_ts_ns"]), int(tally["frames"])
        addresses = np.frombuffer(source, np.uint8), np.frombuffer(target, np.uint8)
        self.segments[self.rows] = (*when, *addresses, *fields, 0, 0, 0)
        self.rows += 1
        self.counts[Outcome.TCP] += 1

    @property
    def frames(self) -> int:
        """Frames seen so far, decoded or not."""
        return int(self._frames[0])

    @property
    def first_ts_ns(self) -> int | None:
        """Earliest time of any frame, or None before the first that has one."""
        return int(self._first_ts_ns[0]) if self._timed else None

    @property
    def last_ts_ns(self) -> int | None:
        """Latest time of any frame, or None before the first that has one."""
        return int(self._last_ts_ns[0]) if self._timed else None

    @property
    def inversions(self) -> int:
        """Frames with a time before that of the frame before them in the same file."""
        return int(self._inversions[0])

    def skipped(self) -> dict[str, int]:
        """Return the frames that gave no segment, by reason, without the reasons that did not occur."""
        return {Outcome(i).name.lower(): n for i, n in enumerate(self.counts.tolist()) if n and i != Outcome.TCP}

    @property
    def _timed(self) -> bool:
        return bool(self._first_ts_ns[0] <= self._last_ts_ns[0])


class Reader(Protocol):
    """What reads one container format from a stream. Made with a stream that is at the first byte of the file."""

    needed: int
    """Bytes that must be in the stream's buffer before `walk` gets any further."""

    def walk(self, batch: Batch) -> bool:
        """Fill `batch` from what the stream holds: True when the batch is full, False when more input is needed.

        Raises:
            CaptureError: the input is damaged here; `batch` has all that came before.
        """

    def finish(self, batch: Batch) -> None:
        """Check that the end of the input is the end of a record.

        Raises:
            CaptureError: the input is cut short.
        """

    def interfaces(self) -> list[Interface]:
        """Return what the input says, as far as it was read, of the interfaces it was taken on (MOST_DESCRIBED)."""
