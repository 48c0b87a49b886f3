"""One input being read: its bytes, its reader, and the window in which its segments are put into order of time.

Owns what happens between the opening of an input and its end; which inputs there are and in what order they are read is
decided elsewhere (inputs.py, merge.py).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator

import numpy as np
import numpy.typing as npt

from conntrack.capture.batch import Batch, Reader
from conntrack.capture.kinds import HEAD_BYTES, MAGIC_BYTES, foreign_name, kind_of, not_a_capture
from conntrack.capture.remote import is_remote
from conntrack.capture.stream import STANDARD_INPUT, Stream
from conntrack.core.order import Window
from conntrack.errors import CaptureError, InputError

__all__ = ["WINDOW_SEGMENTS", "OpenReader", "Slot", "Source", "open_reader"]

Rows = npt.NDArray[np.void]
OpenReader = Callable[[Stream, Batch], Reader]
"""`open_reader`, or what does its work (capture.pyshark)."""

WINDOW_SEGMENTS = 1024
"""How far back a segment is put: past as many others. Captures of several queues or interfaces are out of order by
hundreds of packets at the most; measured, holding back so many costs 1 ns a segment."""
PAUSE_S = 0.05
"""A writer who writes nothing for so long has paused: what is held back is let go."""
PATIENCE_S = 0.5
"""And one who never pauses, but writes so slowly that no batch is full after so long."""


def open_reader(stream: Stream, batch: Batch) -> Reader:
    """Return the reader for what is in `stream`, decompressed or converted first where that is needed.

    Args:
        stream: at its first byte.
        batch: what the reader will fill; its notes say when another program reads the file for us.

    Raises:
        InputError: it is no capture, or the library or program that reads it is not installed.
    """
    # Each reader is imported when there is something for it: a small capture is read in less time than they take.
    head = stream.peek(MAGIC_BYTES)
    if not head:  # or being written anew just now: what would be read next is not what was asked for
        raise not_a_capture(stream.path, head)
    how = ""
    if kind_of(head) is None:
        how = _decompress(stream, head)
        head = stream.peek(MAGIC_BYTES)
    if kind_of(head) is None:
        from conntrack.capture.tcpdump_text import TcpdumpTextReader, is_tcpdump_text

        if is_tcpdump_text(_first_lines(stream)):
            stream.format = f"tcpdump's text{how}"
            return TcpdumpTextReader(stream, batch)
        head = stream.peek(HEAD_BYTES)
        if _convert(stream, head, batch.notes.append):
            how = " through editcap"
    kind = kind_of(stream.peek(MAGIC_BYTES))
    stream.format = f"{kind}{how}"
    match kind:
        case "pcap":
            from conntrack.capture.pcap import PcapReader

            return PcapReader(stream, batch)
        case "pcapng":
            from conntrack.capture.pcapng import PcapngReader

            return PcapngReader(stream, batch)
        case "snoop":
            from conntrack.capture.snoop import SnoopReader

            return SnoopReader(stream, batch)
    raise not_a_capture(stream.path, head)


def _decompress(stream: Stream, head: bytes) -> str:
    # Have what `head` begins decompressed, if it is compressed; return that in words.
    from conntrack.capture.compressed import Decompressed, codec_of

    codec = codec_of(head)
    if codec is None:
        return ""
    stream.exchange(Decompressed(stream.path, stream.source, stream.peek(stream.available), codec))
    return f" in {codec.name}"


def _first_lines(stream: Stream) -> bytes:
    # A pipe may bring no more than a line for a long time.
    while True:
        head = stream.data[stream.position : stream.end].tobytes()[:HEAD_BYTES]
        if b"\n" in head or len(head) == HEAD_BYTES or not stream.more(HEAD_BYTES):
            return head


def _convert(stream: Stream, head: bytes, note: Callable[[str], None]) -> bool:
    # Have editcap read what we do not, if it can; else leave things as they are, or raise InputError.
    from conntrack.capture.foreign import Converted, find_editcap

    name, editcap, path = foreign_name(head), find_editcap(), stream.path
    if name is None or editcap is None:
        return False
    unknown = name.startswith("binary")
    if path == STANDARD_INPUT or is_remote(path) or not stat.S_ISREG(os.stat(path).st_mode):
        if unknown:
            return False
        raise InputError(f"{path}: {name}, which is converted from a file only; write it to a file first")
    before = stream.source
    stream.exchange(Converted(path, name, editcap))
    before.close()
    try:
        stream.peek(MAGIC_BYTES)
    except InputError:
        if unknown:
            raise not_a_capture(path, head) from None
        raise
    note(f"{path}: {'in a format that only Wireshark knows' if unknown else name}; read through editcap")
    return True


class Slot:
    """The memory that one open input needs, used again for the next.

    Args:
        batch_segments: the most rows handed out at once.
        buffer_bytes: of the stream.

    Attributes:
        batch: what readers fill; its tallies are those of all inputs that used the slot.
        packets: frames in inputs that are done with.
        raw_bytes: bytes of inputs that are done with.
    """

    def __init__(self, batch: Batch, buffer_bytes: int) -> None:
        self.batch = batch
        self.window = Window(batch.segments, WINDOW_SEGMENTS)
        self.packets = 0
        self.raw_bytes = 0
        self._buffer_bytes = buffer_bytes
        self._data: npt.NDArray[np.uint8] | None = None

    def take_buffer(self) -> npt.NDArray[np.uint8]:
        """Return a buffer for a stream."""
        data, self._data = self._data, None
        return np.empty(self._buffer_bytes, np.uint8) if data is None else data

    def give_back(self, data: npt.NDArray[np.uint8]) -> None:
        """Take the buffer of a stream that has ended, unless it has grown."""
        if data.size == self._buffer_bytes:
            self._data = data


class Source:
    """One input, read from its start.

    Args:
        stream: its bytes; closed when the input ends.
        slot: the memory to use, which is nobody else's until the input ends.
        first_frame: how many frames came before; its first one gets the next number.
        batch_segments: the most rows handed out at once.
        open_reader: finds the reader.

    Attributes:
        fault: the damage that ended it, if any.
        reader: what reads it, once it is open.
        blocks: its segments in order of time as far as the window reaches, SEGMENT_DTYPE, 1 to `batch_segments` rows
            at a time, each valid until the next is asked for.
    """

    def __init__(
        self,
        stream: Stream,
        slot: Slot,
        first_frame: int,
        batch_segments: int,
        open_reader: OpenReader = open_reader,
    ) -> None:
        self.path = stream.path
        self.fault: CaptureError | None = None
        self.reader: Reader | None = None
        self._stream = stream
        self._slot = slot
        self._first_frame = first_frame
        self._most = batch_segments
        self._open_reader = open_reader
        self._held = 0
        self._inversions = slot.batch.inversions
        self._released_s = time.monotonic()
        self._done = False
        self.blocks: Generator[Rows, None, None] = self._read()

    @property
    def packets(self) -> int:
        """Frames read so far of this input; 0 once it is closed (then they are in its slot)."""
        return 0 if self._done else self._slot.batch.frames - self._first_frame

    @property
    def raw_bytes(self) -> int:
        """Bytes of the file read so far; 0 once it is closed."""
        return 0 if self._done else self._stream.source.raw_bytes

    @property
    def format(self) -> str:
        """What the input is, in words; empty until it is known."""
        return self._stream.format

    def close(self) -> None:
        """Close the input and give its memory back to the slot."""
        if self._done:
            return
        self.blocks.close()
        self._slot.packets += self.packets
        self._slot.raw_bytes += self.raw_bytes
        self._done = True
        self._stream.close()
        self._slot.give_back(self._stream.data)

    def _read(self) -> Generator[Rows, None, None]:
        batch, stream = self._slot.batch, self._stream
        batch.begin_file()
        batch.rows = 0
        batch.tally["frames"] = self._first_frame
        try:
            reader = self.reader = self._open_reader(stream, batch)
            while True:
                full = reader.walk(batch)
                if full:
                    yield from self._leave(self._slot.window.size)
                elif batch.rows and self._paused():
                    yield from self._leave(0)
                if not full and not stream.more(reader.needed):
                    reader.finish(batch)
                    break
        except CaptureError as fault:
            self.fault = fault.with_traceback(None)  # which would keep the buffer alive
        except KeyboardInterrupt:
            yield from self._leave(0)
            raise
        yield from self._leave(0)

    def _leave(self, keep: int) -> Generator[Rows, None, None]:
        # Put what is there into order and hand out all but the last `keep` rows.
        batch, window = self._slot.batch, self._slot.window
        rows, held = batch.rows, self._held
        times = batch.segments["ts_ns"]
        if batch.inversions != self._inversions or (0 < held < rows and times[held] < times[held - 1]):
            self._inversions = batch.inversions
            window.arrange(held, rows)
        stop = max(rows - keep, 0)
        for at in range(0, stop, self._most):
            yield batch.segments[at : min(at + self._most, stop)]
        window.keep(stop, rows)
        batch.rows = self._held = rows - stop
        self._released_s = time.monotonic() if self._stream.source.live else 0.0

    def _paused(self) -> bool:
        source = self._stream.source
        if not source.live or source.ready(0):
            return False
        return time.monotonic() - self._released_s >= PATIENCE_S or not source.ready(PAUSE_S)
