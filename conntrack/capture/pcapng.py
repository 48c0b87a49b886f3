"""pcapng: sections and interfaces, and what is said when a block is damaged. Packets are walked by core.walk.

Owns the section header and interface description blocks, the only ones that change how packets are read; every other
kind of block is stepped over by the kernel. Read draft-ietf-opsawg-pcapng sections 3.1 (blocks), 4.1 and 4.2.

The time in a packet block is a number of ticks since an interface's offset. A packet without a time (simple packet
block) gets that of the packet before it in the file, 0 if there is none.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from conntrack.capture.batch import Batch
from conntrack.capture.kinds import PCAPNG_MAGIC
from conntrack.capture.stream import Stream
from conntrack.core.walk import (
    INTERFACE_DTYPE,
    LAST_TIME_NS,
    MOST_BLOCK_BYTES,
    TIME_DIVIDE,
    TIME_MULTIPLY,
    TIME_SHIFT,
    PcapngWalker,
    Stop,
)
from conntrack.errors import CaptureError

__all__ = ["MOST_INTERFACES", "PcapngReader", "time_scale"]

MOST_INTERFACES = 65_536
"""In one section. The obsolete packet block counts them in 16 bits; it bounds the memory that a hostile file takes."""
MOST_OPTIONS = 1024
"""Of one interface description that are looked at (a block of 16 MiB could hold four million)."""

SECTION_BYTES = 28
INTERFACE_BYTES = 20
BYTE_ORDER_MAGIC = 0x1A2B3C4D
OPTION_END = 0
OPTION_TIME_RESOLUTION = 9
OPTION_FCS_LENGTH = 13
OPTION_TIME_OFFSET = 14
MOST_UINT64 = 2**64 - 1


class PcapngReader:
    """Reads one pcapng file from a stream that is at its first byte.

    Raises:
        CaptureError: the first section header is damaged or cut short.
    """

    def __init__(self, stream: Stream, batch: Batch) -> None:
        self.needed = 12
        self._stream = stream
        self._walker = PcapngWalker(batch.segments, batch.tally, batch.counts, batch.paths.memory)
        self._frames_before = batch.frames
        self._order = "<"
        self._interfaces: npt.NDArray[np.void] = np.zeros(8, INTERFACE_DTYPE)
        self._begin_section(batch)

    def walk(self, batch: Batch) -> bool:
        """Fill `batch` from what the stream holds; see `Reader.walk`."""
        stream = self._stream
        while True:
            stop, stream.position, batch.rows, self.needed = self._walker.walk(
                stream.data, stream.position, stream.end, batch.rows
            )
            match stop:
                case Stop.MORE_INPUT:
                    return False
                case Stop.OUTPUT_FULL:
                    return True
                case Stop.CONTROL_BLOCK if stream.peek(4) == PCAPNG_MAGIC:
                    self._begin_section(batch)
                case Stop.CONTROL_BLOCK:
                    self._add_interface(batch)
                case Stop.BAD_LENGTH:
                    raise self._damage(batch, f"a block that claims {self.needed} bytes")
                case Stop.BAD_TRAILER:
                    raise self._damage(batch, "a block whose two lengths differ")
                case _:
                    raise self._damage(batch, f"a packet of {self.needed} bytes that does not fit into its block")

    def finish(self, batch: Batch) -> None:
        """Check that the file ends with a whole block; see `Reader.finish`."""
        have = self._stream.available
        if have:
            used = batch.frames - self._frames_before
            where = f"the block after packet {used}" if used else "a block before the first packet"
            raise self._stream.damage(f"cut short in {where} ({have} of {self.needed} bytes", used)

    def _damage(self, batch: Batch, what: str) -> CaptureError:
        used = batch.frames - self._frames_before
        where = f"after packet {used}" if used else "before the first packet"
        return self._stream.damage(f"damaged {where} ({what}", used)

    def _begin_section(self, batch: Batch) -> None:
        self.needed = SECTION_BYTES
        head = self._stream.peek(SECTION_BYTES)
        if len(head) < SECTION_BYTES:
            self.finish(batch)
        if int.from_bytes(head[8:12], "little") == BYTE_ORDER_MAGIC:
            order = "<"
        elif int.from_bytes(head[8:12], "big") == BYTE_ORDER_MAGIC:
            order = ">"
        else:
            raise self._damage(batch, "a section without the byte-order magic")
        length, major = struct.unpack(order + "4xI4xH", head[:14])
        if length < SECTION_BYTES or length % 4 or length > MOST_BLOCK_BYTES:
            raise self._damage(batch, f"a block that claims {length} bytes")
        if major != 1:
            raise self._damage(batch, f"a section of version {major}, which does not exist")
        self._take_block(batch, order, length)
        self._order = order
        self._walker.big_endian = order == ">"
        self._walker.describe(self._interfaces, 0)

    def _add_interface(self, batch: Batch) -> None:
        length = int.from_bytes(self._stream.peek(8)[4:], "little" if self._order == "<" else "big")
        if length < INTERFACE_BYTES:
            raise self._damage(batch, f"a block that claims {length} bytes")
        n = self._walker.n_interfaces
        if n == MOST_INTERFACES:
            raise self._damage(batch, f"a section with more than {MOST_INTERFACES} interfaces")
        block = self._take_block(batch, self._order, length)
        if n == len(self._interfaces):
            self._interfaces = np.concatenate([self._interfaces, np.zeros_like(self._interfaces)])
        self._interfaces[n] = _describe_interface(block, self._order)
        self._walker.describe(self._interfaces, n + 1)

    def _take_block(self, batch: Batch, order: str, length: int) -> bytes:
        self.needed = length
        block = self._stream.peek(length)
        if len(block) < length:
            self.finish(batch)
        if struct.unpack(order + "I", block[-4:])[0] != length:
            raise self._damage(batch, "a block whose two lengths differ")
        self._stream.skip(length)
        return block


def time_scale(resolution: int) -> tuple[int, int, int, int]:
    """Return how ticks become nanoseconds, from the byte of option if_tsresol.

    Args:
        resolution: 10^-n seconds as n, or 2^-n as n with the highest bit set (draft-ietf-opsawg-pcapng section 4.2).

    Returns:
        INTERFACE_DTYPE's time_family, factor, shift, and the most ticks before LAST_TIME_NS.
    """
    exponent = resolution & 0x7F
    if resolution & 0x80:
        return TIME_SHIFT, 1, exponent, min(LAST_TIME_NS // 10**9 << exponent, MOST_UINT64)
    if exponent <= 9:
        factor = 10 ** (9 - exponent)
        return TIME_MULTIPLY, factor, 0, LAST_TIME_NS // factor
    factor = min(10 ** (exponent - 9), MOST_UINT64)
    return TIME_DIVIDE, factor, 0, min(LAST_TIME_NS * factor, MOST_UINT64)


def _describe_interface(block: bytes, order: str) -> tuple[int, ...]:
    # The options that matter, of INTERFACE_DTYPE's fields in their order. A later one of a kind wins.
    link_type, snap_bytes = struct.unpack_from(order + "H2xI", block, 8)
    resolution, fcs_bytes, offset_s = 6, 0, 0  # microseconds without the option
    at, end = 16, len(block) - 4
    for _ in range(MOST_OPTIONS):
        if at + 4 > end:
            break
        code, size = struct.unpack_from(order + "HH", block, at)
        value = block[at + 4 : min(at + 4 + size, end)]
        at += 4 + size + -size % 4
        if code == OPTION_END:
            break
        if code == OPTION_TIME_RESOLUTION and len(value) >= 1:
            resolution = value[0]
        elif code == OPTION_FCS_LENGTH and len(value) >= 1:
            # Bits, by Wireshark's reading of an unclear draft; fewer than 8 can only be bytes (pcapng issue 60).
            fcs_bytes = value[0] // 8 if value[0] >= 8 else value[0]
        elif code == OPTION_TIME_OFFSET and len(value) >= 8:
            (offset_s,) = struct.unpack(order + "q", value[:8])
    family, factor, shift, most_ticks = time_scale(resolution)
    offset_ns = max(-LAST_TIME_NS, min(offset_s * 10**9, LAST_TIME_NS))
    return factor, most_ticks, offset_ns, link_type, snap_bytes, fcs_bytes, family, shift, 0
