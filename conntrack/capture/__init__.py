"""The only opener of inputs: captures in, batches of decoded TCP segments out, in order of time.

Owns the account of what was read, and where reading ends. Knows no connection. `open_capture` is the door. Which inputs
there are is found by inputs.py (follow.py where they are still being written); one is read by source.py, several are
laid side by side by merge.py; bytes come through stream.py; the formats have a file each (pcap.py, pcapng.py, snoop.py,
tcpdump_text.py; pyshark.py for what tshark dissects), the loops over packets are in core.walk and core.decode.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from conntrack.capture.batch import Batch
from conntrack.capture.inputs import Inputs, find_inputs
from conntrack.capture.interfaces import Interface
from conntrack.capture.merge import Start, in_sequence, merged
from conntrack.capture.paths import Paths
from conntrack.capture.source import WINDOW_SEGMENTS, OpenReader, Slot, Source, open_reader
from conntrack.capture.stream import BUFFER_BYTES, STANDARD_INPUT, Stream, input_size
from conntrack.core.decode import Outcome
from conntrack.core.walk import N_OUTCOMES
from conntrack.errors import CaptureError, InputError

if TYPE_CHECKING:
    from conntrack.capture.filter import Filter

__all__ = ["Capture", "CaptureInfo", "Described", "open_capture", "open_reader"]

BATCH_SEGMENTS = 8192
"""Measured: 1,024 costs a fifth more time, above 8,192 nothing changes (and 768 KiB still fit into a level 2 cache)."""

OVERLAP_SEGMENTS = 2048
OVERLAP_BUFFER_BYTES = 1 << 18
"""Memory of an input that is open beside another: there may be many."""
LOOK_BUFFER_BYTES = 1 << 16
"""Of an input that is looked at for the time of its first packet."""
REASONS = tuple("" if i == Outcome.TCP else Outcome(i).name.lower() for i in range(N_OUTCOMES))
"""Why a frame gave no segment, by core.decode.Outcome; "" where it gave one."""


@dataclass(frozen=True, slots=True)
class Described:
    """What one input says of itself.

    Attributes:
        path: its name.
        format: in words: "pcap", "pcapng in gzip".
        packets: in it.
        interfaces: that it was taken on, where its reader knows them.
        comments: on packets; their text is not read. Of the formats only pcapng has them.
    """

    path: str
    format: str
    packets: int
    interfaces: tuple[Interface, ...]
    comments: int = 0


@dataclass
class CaptureInfo:
    """The account of what was read; brought up to date before each batch is handed out, and at the end.

    Attributes:
        files: the inputs in the order in which they are read.
        bytes: bytes read so far.
        bytes_total: bytes of all inputs together, None when one of them is a pipe.
        packets: packets read so far; always `tcp_segments` and everything in `skipped` together.
        tcp_segments: packets decoded as TCP.
        first_ts_ns: earliest time of any packet, nanoseconds since 1970, None when there was none.
        last_ts_ns: latest time of any packet.
        time_inversions: packets with a time before that of the packet before them in the same file.
        paths: the outer paths of the segments, as text, by SEGMENT_DTYPE.path and FLOW_DTYPE.path (capture.paths).
        incomplete: IP packets in fragments of which not all came; their TCP is not known.
        subframes: frames behind the first of an 802.11 aggregate (A-MSDU), which are not read; no part of `packets`.
        skipped: packets not decoded as TCP by reason (linklayer.REASONS has the words), only those that occurred;
            "outside_time" are segments before `from_ns` or after `to_ns`.
        faults: damage met; reading of that input ended there.
        notes: what else the user should know of how it is read, and what had to be assumed, one line each.
        described: what is known of each input that was opened, in the order in which they ended.
    """

    files: list[str]
    bytes: int = 0
    bytes_total: int | None = None
    packets: int = 0
    tcp_segments: int = 0
    first_ts_ns: int | None = None
    last_ts_ns: int | None = None
    time_inversions: int = 0
    paths: Sequence[str] = ("",)
    incomplete: int = 0
    subframes: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    faults: list[CaptureError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    described: list[Described] = field(default_factory=list)


class Capture:
    """One or more captures, read as one. A context manager; iterate over it once.

    Attributes:
        info: the account of what was read so far.
        sources: the inputs that are open.
        starts: time of the first packet of each of `info.files`, None where it is not known.
    """

    def __init__(
        self,
        batch_segments: int,
        *,
        filter: Filter | None = None,
        open_reader: OpenReader = open_reader,
        from_ns: int | None = None,
        to_ns: int | None = None,
    ) -> None:
        self._paths = Paths()
        self.info = CaptureInfo([], paths=self._paths)
        self.sources: list[Source] = []
        self.starts: tuple[int | None, ...] = ()
        self._most = batch_segments
        self._filter = filter
        self._open_reader = open_reader
        self._from_ns, self._to_ns = from_ns, to_ns
        self._outside = 0
        self._slots: list[Slot] = []
        self._free: list[Slot] = []
        self._add_slot(batch_segments, BUFFER_BYTES)
        self._used: dict[Source, Slot] = {}
        self._segments: Generator[npt.NDArray[np.void], None, None] = in_sequence(iter(()), self._closed)
        self._batches = self._read()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[npt.NDArray[np.void]]:
        """Return the batches: SEGMENT_DTYPE, 1 to `batch_segments` rows, in order of time (source.WINDOW_SEGMENTS).

        Each array is a view of one that is filled again: it is valid until the next is asked for.

        Raises:
            InputError: an input that could not be looked at before (a pipe) is no capture.
        """
        return self._batches

    def close(self) -> None:
        """Close what is being read; the iteration ends."""
        self._batches.close()
        self._segments.close()

    def read_files(self, inputs: Inputs) -> None:
        """Have `inputs` read: files side by side in order of time, as soon as a pipe is among them one by one."""
        openers = [self._opener(name) for name in inputs.names]
        self.starts = inputs.starts
        if inputs.bytes_total is None:
            self._segments = in_sequence(iter(openers), self._closed)
        else:
            starts: list[Start] = list(zip(inputs.starts, openers, strict=True))
            self._segments = merged(starts, self._closed, self.info.notes.append)

    def read_streams(self, streams: Iterable[Stream]) -> None:
        """Have `streams` read one by one, each asked for when the one before has ended."""

        def openers() -> Iterator[Callable[[int], Source]]:
            for stream in streams:
                self.info.files.append(stream.path)
                yield self._opener(stream.path, stream)

        self._segments = in_sequence(openers(), self._closed)

    def _add_slot(self, batch_segments: int, buffer_bytes: int) -> None:
        batch = Batch(window_rows(batch_segments), self._filter, self._paths, self.info.notes)
        self._slots.append(Slot(batch, buffer_bytes))
        self._free.append(self._slots[-1])

    def _opener(self, path: str, stream: Stream | None = None) -> Callable[[int], Source]:
        def open_source(first_frame: int) -> Source:
            if not self._free:
                self._add_slot(min(OVERLAP_SEGMENTS, self._most), OVERLAP_BUFFER_BYTES)
            slot = self._free.pop()
            opened = Stream(path, slot.take_buffer()) if stream is None else stream
            source = Source(opened, slot, first_frame, self._most, self._open_reader)
            self._used[source] = slot
            self.sources.append(source)
            return source

        return open_source

    def _closed(self, source: Source) -> None:
        if source in self._used:
            interfaces = tuple(source.reader.interfaces()) if source.reader else ()
            comments = getattr(source.reader, "comments", 0)
            self.info.described.append(Described(source.path, source.format, source.packets, interfaces, comments))
        source.close()
        if source in self._used:
            self._free.append(self._used.pop(source))
            self._free.sort(key=self._slots.index, reverse=True)  # the large one first
            self.sources.remove(source)
            if source.fault is not None:
                self.info.faults.append(source.fault)

    def _read(self) -> Generator[npt.NDArray[np.void], None, None]:
        try:
            for rows in self._segments:
                for at in range(0, len(rows), self._most):
                    part = rows[at : at + self._most]
                    if self._from_ns is not None or self._to_ns is not None:
                        part = self._within(part)
                    if len(part):
                        self._account()
                        yield part
                if self._to_ns is not None and int(rows["ts_ns"][-1]) > self._to_ns:
                    break
        finally:
            self._segments.close()
            self._account()
            if self._outside and not self.info.tcp_segments:
                self.info.notes.append(
                    "no TCP segment lies in the time asked for; 'ctrack info' says when there are any"
                )

    def _within(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        times = rows["ts_ns"]
        inside = np.ones(len(rows), bool)
        if self._from_ns is not None:
            inside &= times >= self._from_ns
        if self._to_ns is not None:
            inside &= times <= self._to_ns
        n = int(np.count_nonzero(inside))
        self._outside += len(rows) - n
        return rows if n == len(rows) else rows[inside]

    def _account(self) -> None:
        # At every batch, with caches full of segments: each element of an array costs more here than all as one list.
        info, slots, sources = self.info, self._slots, self.sources
        info.bytes = sum(slot.raw_bytes for slot in slots) + sum(source.raw_bytes for source in sources)
        info.packets = sum(slot.packets for slot in slots) + sum(source.packets for source in sources)
        counts = sum((slot.batch.counts for slot in slots[1:]), start=slots[0].batch.counts).tolist()
        info.skipped = {reason: n for reason, n in zip(REASONS, counts, strict=True) if n and reason}
        if self._outside:
            info.skipped["outside_time"] = self._outside
        info.tcp_segments = info.packets - sum(info.skipped.values())
        _, inversions, firsts, lasts, _ = zip(*[slot.batch.tally.tolist()[0] for slot in slots], strict=True)
        first = min(firsts) if self._from_ns is None else max(min(firsts), self._from_ns)
        last = max(lasts) if self._to_ns is None else min(max(lasts), self._to_ns)
        info.first_ts_ns, info.last_ts_ns = (first, last) if first <= last else (None, None)
        info.time_inversions = sum(inversions)
        info.incomplete = self._paths.incomplete
        info.subframes = self._paths.subframes


def window_rows(batch_segments: int) -> int:
    """Return the rows that a batch needs to hand out `batch_segments` at once and hold back a window."""
    return max(batch_segments, WINDOW_SEGMENTS) + WINDOW_SEGMENTS


def open_capture(
    paths: Sequence[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    follow: bool = False,
    from_ns: int | None = None,
    to_ns: int | None = None,
    filter: str | None = None,
    reader: Literal["native", "pyshark"] = "native",
    display_filter: str | None = None,
    batch_segments: int = BATCH_SEGMENTS,
) -> Capture:
    """Open captures for reading; nothing but their first bytes is read yet.

    Files are read as one, in order of time, also where they overlap; as soon as a pipe or standard input is among them,
    one after the other in the order given. Within each, segments are put into order of time as far as a window of
    source.WINDOW_SEGMENTS reaches (core/order.pyx has the rule).

    Args:
        paths: files, patterns of their names (`ring_*`), or "-" for standard input.
        recursive: read the captures in directories, and below; what is none there is left out and told.
        follow: go on reading as the file, or the set of files, is written (follow.py); never ends by itself.
        from_ns: leave out segments before this time, nanoseconds since 1970.
        to_ns: leave out segments after this time; reading ends at the first of them.
        filter: only frames that pass this expression of pcap-filter(7) are decoded; the others count as "filtered".
        reader: "pyshark" has tshark dissect the files, a thousand times slower (capture.pyshark).
        display_filter: Wireshark's, for reader "pyshark".
        batch_segments: the most rows that a batch has.

    Raises:
        InputError: an input does not exist, cannot be read, or is of no supported kind.
        ConntrackError: the filter is no expression that libpcap takes, or libpcap is not installed.
    """
    if batch_segments < 1:
        raise ValueError(f"batch_segments must be at least 1, not {batch_segments}")
    passing, opener = _how(filter, reader, display_filter, follow=follow)
    capture = Capture(batch_segments, filter=passing, open_reader=opener, from_ns=from_ns, to_ns=to_ns)
    info = capture.info
    if follow:
        from conntrack.capture.follow import follow_streams

        capture.read_streams(follow_streams(paths, info.notes.append))
    else:
        look = Slot(Batch(window_rows(1), passing), LOOK_BUFFER_BYTES)
        inputs = find_inputs(paths, recursive=recursive, slot=look, open_reader=opener, note=info.notes.append)
        if reader == "pyshark" and inputs.bytes_total is None:
            pipe = next(name for name in inputs.names if name == STANDARD_INPUT or input_size(name) is None)
            raise InputError(f"{pipe}: --reader pyshark reads files, not a pipe; write it to a file first")
        info.files, info.bytes_total = list(inputs.names), inputs.bytes_total
        capture.read_files(inputs)
    return capture


def _how(
    filter: str | None, reader: str, display_filter: str | None, *, follow: bool
) -> tuple[Filter | None, OpenReader]:
    if reader == "pyshark":
        if filter is not None:
            raise InputError("--filter is not for --reader pyshark; give a --display-filter")
        if follow:
            raise InputError("--follow is not for --reader pyshark; it reads files that are whole")
        from conntrack.capture.pyshark import Dissection

        return None, Dissection(display_filter)
    if display_filter is not None:
        raise InputError("--display-filter is Wireshark's; it needs --reader pyshark (--filter does not)")
    if filter is None:
        return None, open_reader
    from conntrack.capture.filter import Filter

    return Filter(filter), open_reader
