"""The only opener of inputs: captures in, batches of decoded TCP segments out.

Owns which input is read when, and the account of what was read. Knows no connection. `open_capture` is the door; the
formats are in pcap.py and pcapng.py, the bytes in stream.py, the loops over packets in core.walk and core.decode.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from conntrack.capture.batch import Batch, Reader
from conntrack.capture.kinds import HEAD_BYTES, MAGIC_BYTES, kind_of, not_a_capture
from conntrack.capture.pcap import PcapReader
from conntrack.capture.pcapng import PcapngReader
from conntrack.capture.snoop import SnoopReader
from conntrack.capture.stream import STANDARD_INPUT, Stream, input_size
from conntrack.capture.tcpdump_text import TcpdumpTextReader, is_tcpdump_text
from conntrack.errors import CaptureError, InputError

if TYPE_CHECKING:
    from conntrack.capture.filter import Filter

__all__ = ["Capture", "CaptureInfo", "open_capture", "open_reader"]

BATCH_SEGMENTS = 8192
"""Measured: 1,024 costs a fifth more time, above 8,192 nothing changes (and 768 KiB still fit into a level 2 cache)."""

MOST_LOOKED_BYTES = 1 << 24
"""How far into a file its first packet is looked for, to order the files: as far as one pcapng block may reach."""


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
        skipped: packets not decoded as TCP by reason (linklayer.REASONS has the words), only those that occurred.
        faults: damage met; reading of that input ended there.
        notes: what had to be assumed of an input, one line each.
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
    skipped: dict[str, int] = field(default_factory=dict)
    faults: list[CaptureError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Capture:
    """One or more captures, read as one. A context manager; iterate over it once.

    Attributes:
        info: the account of what was read so far.
    """

    def __init__(
        self, paths: Sequence[str], bytes_total: int | None, batch_segments: int, filter: Filter | None = None
    ) -> None:
        self.info = CaptureInfo(list(paths), bytes_total=bytes_total)
        self._batch = Batch(batch_segments, filter)
        self.info.paths = self._batch.paths
        self._batches = self._read()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[npt.NDArray[np.void]]:
        """Return the batches: SEGMENT_DTYPE, 1 to `batch_segments` rows, in the order of the packets.

        Each array is a view of one that is filled again: it is valid until the next is asked for.

        Raises:
            InputError: an input that could not be looked at before (a pipe) is no capture.
        """
        return self._batches

    def close(self) -> None:
        """Close the input that is being read; the iteration ends."""
        self._batches.close()

    def _read(self) -> Generator[npt.NDArray[np.void], None, None]:
        batch = self._batch
        for path in self.info.files:
            with Stream(path) as stream:
                before = self.info.bytes
                batch.begin_file()
                try:
                    reader = open_reader(stream, batch)
                    while True:
                        full = reader.walk(batch)
                        self._account(before + stream.read_bytes)
                        if full or (batch.rows and stream.would_wait()):
                            yield batch.segments[: batch.rows]
                            batch.rows = 0
                        if not full and not stream.more(reader.needed):
                            reader.finish(batch)
                            break
                except CaptureError as fault:
                    self.info.faults.append(fault.with_traceback(None))  # which would keep the buffer alive
                self._account(before + stream.read_bytes)
        if batch.rows:
            yield batch.segments[: batch.rows]

    def _account(self, read_bytes: int) -> None:
        batch, info = self._batch, self.info
        info.bytes = read_bytes
        info.packets = batch.frames
        info.skipped = batch.skipped()
        info.tcp_segments = info.packets - sum(info.skipped.values())
        info.first_ts_ns, info.last_ts_ns = batch.first_ts_ns, batch.last_ts_ns
        info.time_inversions = batch.inversions
        info.incomplete = batch.paths.incomplete
        info.notes = batch.notes


def open_capture(
    paths: Sequence[str | os.PathLike[str]],
    *,
    filter: str | None = None,
    reader: Literal["native", "pyshark"] = "native",
    display_filter: str | None = None,
    batch_segments: int = BATCH_SEGMENTS,
) -> Capture:
    """Open captures for reading; nothing but their first bytes is read yet.

    Regular files are read in the order of their first packets' times; as soon as a pipe or standard input is among
    them, in the order given.

    Args:
        paths: files, or "-" for standard input.
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
    if not paths:
        raise InputError("no capture given; name at least one file, or - for standard input")
    if display_filter is not None and reader != "pyshark":
        raise InputError("--display-filter is Wireshark's; it needs --reader pyshark (--filter does not)")
    if reader == "pyshark":
        if filter is not None:
            raise InputError("--filter is not for --reader pyshark; give a --display-filter")
        from conntrack.capture.pyshark import PysharkCapture

        return PysharkCapture([os.fsdecode(path) for path in paths], display_filter, batch_segments)
    passing = None
    if filter is not None:
        from conntrack.capture.filter import Filter

        passing = Filter(filter)
    names = [os.fsdecode(path) for path in paths]
    if names.count(STANDARD_INPUT) > 1:
        raise InputError("-: given twice; standard input can be read once")
    sizes = {name: input_size(name) for name in names}
    files = {name: size for name, size in sizes.items() if size is not None}
    if len(files) < len(sizes):  # a pipe cannot be looked into and then read
        for name in files:
            _look(name, passing, for_order=False)
        return Capture(names, None, batch_segments, passing)
    starts = {name: _look(name, passing, for_order=len(names) > 1) for name in files}
    names.sort(key=lambda name: (starts[name] is not None, starts[name] or 0))
    return Capture(names, sum(files[name] for name in names), batch_segments, passing)


def open_reader(stream: Stream, batch: Batch) -> Reader:
    """Return the reader that the first bytes of an input call for.

    Raises:
        InputError: it is no capture, or one that is not read.
        CaptureError: its file header is damaged.
    """
    match kind_of(stream.peek(MAGIC_BYTES)):
        case "pcap":
            return PcapReader(stream, batch)
        case "pcapng":
            return PcapngReader(stream, batch)
        case "snoop":
            return SnoopReader(stream, batch)
    head = _first_lines(stream)
    if is_tcpdump_text(head):
        return TcpdumpTextReader(stream, batch)
    raise not_a_capture(stream.path, stream.peek(HEAD_BYTES))


def _first_lines(stream: Stream) -> bytes:
    # A pipe may bring no more than a line for a long time.
    size = HEAD_BYTES
    while b"\n" not in (head := stream.data[stream.position : stream.end].tobytes()[:size]) and len(head) < size:
        if not stream.more(size):
            break
    return stream.data[stream.position : stream.end].tobytes()[:size]


def _look(path: str, filter: Filter | None, *, for_order: bool) -> int | None:
    # Refuse what is no capture. For the order of files: the earliest time in the first stretch that holds packets.
    batch = Batch(1, filter)
    with Stream(path, buffer_bytes=1 << 16) as stream:
        try:
            reader = open_reader(stream, batch)
            while for_order and not reader.walk(batch) and not batch.frames and stream.read_bytes < MOST_LOOKED_BYTES:
                if not stream.more(reader.needed):
                    break
        except CaptureError:
            return None  # told when the file is read
    return batch.first_ts_ns
