"""snoop, the format of Solaris: the file header, and what is said when the file is damaged. Walked by core.walk.

Owns the file header: version and datalink type. Read RFC 1761, and https://www.iana.org/assignments/snoop-datalink-types
for the types that came later.
"""

from __future__ import annotations

import struct

from conntrack.capture.batch import Batch
from conntrack.capture.interfaces import Interface
from conntrack.capture.kinds import SNOOP_MAGIC
from conntrack.capture.stream import Stream
from conntrack.core.walk import SnoopWalker, Stop
from conntrack.errors import InputError

__all__ = ["SnoopReader"]

FILE_HEADER_BYTES = 16
RECORD_HEADER_BYTES = 24
NO_LINK_TYPE = 0xFFFF
LINK_TYPES = {0: 1, 2: 6, 4: 1, 8: 10, 26: 242}
"""Datalink type -> LINKTYPE_*: IEEE 802.3, 802.5, Ethernet, FDDI, and IP over InfiniBand."""


class SnoopReader:
    """Reads one snoop file of version 2 from a stream that is at its first byte.

    Raises:
        InputError: another version, or the filter cannot be made for the link type.
        CaptureError: the file header is cut short.
    """

    def __init__(self, stream: Stream, batch: Batch) -> None:
        head = stream.peek(FILE_HEADER_BYTES)
        if len(head) < FILE_HEADER_BYTES:
            raise stream.damage(f"cut short in the file header ({len(head)} of {FILE_HEADER_BYTES} bytes", 0)
        magic, version, datalink = struct.unpack(">8sII", head)
        if magic != SNOOP_MAGIC or version != 2:
            what = f"a snoop capture of version {version}" if magic == SNOOP_MAGIC else "almost a snoop capture"
            raise InputError(f"{stream.path}: {what}, which is not read; use: editcap -F pcap FILE - | ctrack -")
        stream.skip(FILE_HEADER_BYTES)
        link_type = LINK_TYPES.get(datalink, NO_LINK_TYPE)
        self.needed = RECORD_HEADER_BYTES
        self._walker = SnoopWalker(link_type, batch.segments, batch.tally, batch.counts, batch.paths.memory)
        if batch.filter:
            batch.filter.check(link_type, stream.path)
            self._walker.use_filter(batch.filter)
        self._stream = stream
        self._frames_before = batch.frames
        self._link_type = link_type

    def walk(self, batch: Batch) -> bool:
        """Fill `batch` from what the stream holds; see `Reader.walk`."""
        stream = self._stream
        stop, stream.position, batch.rows, self.needed = self._walker.walk(
            stream.data, stream.position, stream.end, batch.rows
        )
        if stop in (Stop.BAD_LENGTH, Stop.BAD_PACKET):
            used = batch.frames - self._frames_before
            raise stream.damage(f"damaged at packet {used + 1} (it claims {self.needed} bytes", used)
        return stop == Stop.OUTPUT_FULL

    def finish(self, batch: Batch) -> None:
        """Check that the file ends with a whole record; see `Reader.finish`."""
        have = self._stream.available
        if have:
            used = batch.frames - self._frames_before
            raise self._stream.damage(f"cut short in packet {used + 1} ({have} of {self.needed} bytes", used)

    def interfaces(self) -> list[Interface]:
        """Return the one interface of the file, with the drops that its last record tells."""
        return [Interface(self._link_type, os="Solaris", dropped=self._walker.dropped)]
