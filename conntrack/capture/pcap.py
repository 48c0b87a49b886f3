"""Classic pcap: the file header, and what is said when the file is damaged. Records are walked by core.walk.

Owns the file header, and the guess at dialects that share a magic number: byte order, unit of time, version, link type,
length of the record headers. Read draft-ietf-opsawg-pcap; libpcap's sf-pcap.c for the files of versions before 2.4, and
Wireshark's wiretap/libpcap.c for the dialects.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from conntrack.capture.batch import Batch
from conntrack.capture.interfaces import Interface
from conntrack.capture.kinds import PCAP_MAGICS
from conntrack.capture.stream import Stream
from conntrack.core.walk import PCAP_LAYOUT_DTYPE, PcapWalker, Stop
from conntrack.errors import InputError

__all__ = ["PcapReader"]

STANDARD_SNAP_BYTES = 262_144
"""The longest record that libpcap takes for real (MAXIMUM_SNAPLEN), unless the file says that it has longer ones."""
MOST_SNAP_BYTES = 1 << 24
"""The longest that is believed even then: it bounds the buffer."""

PCAP_MAGIC = 0xA1B2C3D4
MODIFIED_MAGIC = 0xA1B2CD34
DIALECTS: dict[int, tuple[int, ...]] = {PCAP_MAGIC: (16, 24, 20), MODIFIED_MAGIC: (24, 28)}
"""Magic number -> record header lengths in use with it, the usual one first.

With the standard one 24 is Kuznetzov's patch of April 1999 (Red Hat 6.1), 20 is Nokia's; with the modified one 28 is
his patch of September 1999 (SuSE 6.3).
"""
TRIED_RECORDS = 3
"""How many record headers are looked at to tell dialects, as Wireshark does."""
HOPELESS = 1000
"""Faults of a dialect in which not even the first record can be read."""
MOST_WIRE_BYTES = 128 << 20
MOST_INTERFACE_INDEX = 10_000
ETHERNET_TYPES_BELOW_0X600 = {*range(0x18), 0x60, 0x200, 0x400}
AIX_LINK_TYPES = {6: 1, 9: 6, 15: 10, 24: 0}
"""Interface types of RFC 1573, which AIX writes, with version 2.2 and nanoseconds -> link types."""


class PcapReader:
    """Reads one classic pcap file from a stream that is at its first byte, or at a record.

    Args:
        stream: the file's bytes.
        batch: what will be filled.
        layout: how records are laid out (PCAP_LAYOUT_DTYPE, shape (1,)), where the stream is past the file header.

    Attributes:
        layout: as above; found in the file header if it was not given.

    Raises:
        InputError: a version that does not exist, or the filter cannot be made for the link type.
        CaptureError: the file header is cut short.
    """

    def __init__(self, stream: Stream, batch: Batch, layout: npt.NDArray[np.void] | None = None) -> None:
        self._interface: Interface | None = None
        if layout is None:
            layout, self._interface = _file_header(stream)
        self.layout = layout
        link_type = int(self.layout["link_type"][0])
        self.needed = self._header_bytes = int(self.layout["header_bytes"][0])
        self._walker = PcapWalker(self.layout, batch.segments, batch.tally, batch.counts, batch.paths.memory)
        if batch.filter:
            batch.filter.check(link_type, stream.path)
            self._walker.use_filter(batch.filter)
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

    def interfaces(self) -> list[Interface]:
        """Return the one interface that the file header describes; none without that header."""
        return [] if self._interface is None else [self._interface]


def _file_header(stream: Stream) -> tuple[npt.NDArray[np.void], Interface]:
    magic = stream.peek(4)
    order = "<" if int.from_bytes(magic, "little") in PCAP_MAGICS else ">"
    number = struct.unpack(order + "I", magic)[0]
    fraction_ns, file_header_bytes, header_bytes = PCAP_MAGICS[number]
    head = stream.peek(file_header_bytes)
    if len(head) < file_header_bytes:
        raise stream.damage(f"cut short in the file header ({len(head)} of {file_header_bytes} bytes", 0)
    major, minor, _, _, snap_bytes, link = struct.unpack_from(order + "HHiIII", head, 4)
    # libpcap reads 2.0 to 2.4, and 543.0, which HP DG/UX wrote for 2.4.
    if (major, minor) != (543, 0) and (major != 2 or minor > 4):
        raise InputError(f"{stream.path}: pcap of version {major}.{minor}, which does not exist; record it again")
    link_type = link & 0xFFFF
    if number == PCAP_MAGIC and (major, minor) == (2, 2) and link in AIX_LINK_TYPES:
        link_type, fraction_ns = AIX_LINK_TYPES[link], 1
    stream.skip(file_header_bytes)
    most_captured = min(max(snap_bytes, STANDARD_SNAP_BYTES), MOST_SNAP_BYTES)
    if number in DIALECTS and (major, minor) == (2, 4):  # the dialects are all of this version
        header_bytes = _header_bytes(stream, order, DIALECTS[number], most_captured)
    # Before 2.3 the length on the wire came first; writers of 2.3 did either (libpcap, sf-pcap.c).
    lengths_order = 1 if major == 543 or minor < 3 else 2 if minor == 3 else 0
    # Bit 26 says that bits 28 to 31 hold the length of the frame check sequence, in units of two bytes.
    fcs_bytes = (link >> 28) * 2 if link >> 26 & 1 else 0
    fields = (order == ">", header_bytes, fraction_ns, lengths_order, link_type, fcs_bytes, most_captured, 0)
    interface = Interface(link_type, snap_bytes, "1 ns" if fraction_ns == 1 else "1 us")
    return np.array([fields], PCAP_LAYOUT_DTYPE), interface


def _header_bytes(stream: Stream, order: str, lengths: tuple[int, ...], most_captured: int) -> int:
    """Return the length of record headers with which the first records make most sense.

    Only what the first read brought is looked at: a pipe may bring the second packet much later.
    """
    records = stream.data[stream.position : stream.end]
    best = lengths[0]
    fewest = None
    for length in lengths:
        faults = _faults(records.data, order, length, most_captured)
        if fewest is None or faults < fewest:
            best, fewest = length, faults
        if fewest == 0:
            break
    return best


def _faults(records: memoryview, order: str, header_bytes: int, most_captured: int) -> int:
    # How many things are odd about the first records, with headers of this length.
    faults: int = 0
    at: int = 0
    for _ in range(TRIED_RECORDS):
        if at == len(records):
            break
        if at + header_bytes > len(records):
            return faults + 1 if at else HOPELESS
        _, fraction, captured, on_wire = struct.unpack_from(order + "IIII", records, at)
        faults += (fraction >= 1_000_000) + (on_wire > MOST_WIRE_BYTES) + (captured > on_wire)
        if header_bytes == 20 and at == 0:  # once: others than these may exist
            (known,) = struct.unpack_from(order + "I", records, at + 16)
            # The values that have been seen: 0xXfbfYZ0W, with X 9 or b, Y b or d, Z 6 or 9, W 1 or 2.
            faults += not (
                known & 0x0FFF00F0 == 0x0FBF0000
                and known >> 28 in (0x9, 0xB)
                and known >> 12 & 15 in (0xB, 0xD)
                and known >> 8 & 15 in (6, 9)
                and known & 15 in (1, 2)
            )
        elif header_bytes > 20:
            index, protocol, kind = struct.unpack_from(order + "IHB", records, at + 16)
            faults += (index > MOST_INTERFACE_INDEX) + (kind > 4)
            faults += protocol < 0x600 and protocol not in ETHERNET_TYPES_BELOW_0X600
        if captured > most_captured:
            return faults + 1 if at else HOPELESS
        at += header_bytes + captured
        if at > len(records):  # nothing odd: the rest was not read yet
            break
    return faults
