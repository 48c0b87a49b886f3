"""Classic pcap: the file header, and what is said when the file is damaged. Records are walked by core.walk.

Owns the file header only: byte order, unit of time, version, link type. Read draft-ietf-opsawg-pcap, and libpcap's
sf-pcap.c for the files of versions before 2.4.
"""

from __future__ import annotations

import struct

import numpy as np

from conntrack.capture.batch import Batch
from conntrack.capture.kinds import PCAP_MAGICS
from conntrack.capture.stream import Stream
from conntrack.core.walk import PCAP_LAYOUT_DTYPE, PcapWalker, Stop
from conntrack.errors import InputError

__all__ = ["PcapReader"]

FILE_HEADER_BYTES = 24
STANDARD_SNAP_BYTES = 262_144
"""The longest record that libpcap takes for real (MAXIMUM_SNAPLEN), unless the file says that it has longer ones."""
MOST_SNAP_BYTES = 1 << 24
"""The longest that is believed even then: it bounds the buffer."""


class PcapReader:
    """Reads one classic pcap file from a stream that is at its first byte.

    Raises:
        InputError: a version that does not exist.
        CaptureError: the file header is cut short.
    """

    def __init__(self, stream: Stream, batch: Batch) -> None:
        head = stream.peek(FILE_HEADER_BYTES)
        if len(head) < FILE_HEADER_BYTES:
            raise stream.damage(f"cut short in the file header ({len(head)} of {FILE_HEADER_BYTES} bytes", 0)
        order = "<" if int.from_bytes(head[:4], "little") in PCAP_MAGICS else ">"
        magic, major, minor, _, _, snap_bytes, link = struct.unpack(order + "IHHiIII", head)
        # libpcap reads 2.0 to 2.4, and 543.0, which HP DG/UX wrote for 2.4.
        if (major, minor) != (543, 0) and (major != 2 or minor > 4):
            raise InputError(f"{stream.path}: pcap of version {major}.{minor}, which does not exist; record it again")
        fraction_ns, header_bytes = PCAP_MAGICS[magic]
        layout = np.zeros(1, PCAP_LAYOUT_DTYPE)
        layout["big_endian"] = order == ">"
        layout["header_bytes"] = header_bytes
        layout["fraction_ns"] = fraction_ns
        # Before 2.3 the length on the wire came first; writers of 2.3 did either (libpcap, sf-pcap.c).
        layout["lengths_order"] = 0 if major != 2 or minor > 3 else 2 if minor == 3 else 1
        layout["link_type"] = link & 0xFFFF
        # Bit 26 says that bits 28 to 31 hold the length of the frame check sequence, in units of two bytes.
        layout["fcs_bytes"] = (link >> 28) * 2 if link >> 26 & 1 else 0
        layout["most_captured"] = min(max(snap_bytes, STANDARD_SNAP_BYTES), MOST_SNAP_BYTES)
        stream.skip(FILE_HEADER_BYTES)
        self.needed = header_bytes
        self._header_bytes = header_bytes
        self._walker = PcapWalker(layout, batch.segments, batch.tally, batch.counts, batch.paths.memory)
        self._stream = stream
        self._frames_before = batch.frames

    def walk(self, batch: Batch) -> bool:
        """Fill `batch` from what the stream holds; see `Reader.walk`."""
        stream = self._stream
        stop, stream.position, batch.rows, self.needed = self._walker.walk(
            stream.data, stream.position, stream.end, batch.rows
        )
        if stop == Stop.BAD_LENGTH:
            used = batch.frames - self._frames_before
            raise stream.damage(f"damaged at packet {used + 1} (it claims {self.needed} bytes", used)
        return stop == Stop.OUTPUT_FULL

    def finish(self, batch: Batch) -> None:
        """Check that the file ends with a whole record; see `Reader.finish`."""
        have, whole = self._stream.available, self._header_bytes
        if have == 0:
            return
        used = batch.frames - self._frames_before
        where = f"the header of packet {used + 1}"
        if have >= self._header_bytes:
            where = f"packet {used + 1}"
            have, whole = have - self._header_bytes, self.needed - self._header_bytes
        raise self._stream.damage(f"cut short in {where} ({have} of {whole} bytes", used)
