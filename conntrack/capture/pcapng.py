"""pcapng: the words in sections and interface descriptions, and what is said when a block is damaged.

Owns what the file says in words (names, filters, who captured), for `interfaces()`; all that packets need is read by
core.walk_pcapng. Read draft-ietf-opsawg-pcapng sections 3.1 (blocks), 3.5 (options), 4.1 and 4.2.

The time in a packet block is a number of ticks since an interface's offset. A packet without a time (simple packet
block) gets that of the packet before it in the file, 0 if there is none. Name resolution, decryption secrets, systemd
journal, Sysdig and custom blocks say nothing of TCP and are stepped over.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from conntrack.capture.batch import Batch
from conntrack.capture.interfaces import MOST_DESCRIBED, Interface
from conntrack.capture.kinds import PCAPNG_MAGIC
from conntrack.capture.stream import Stream
from conntrack.core.blocks import DROPPED_TOLD, INTERFACE_DTYPE, RECEIVED_TOLD
from conntrack.core.walk import Stop
from conntrack.core.walk_pcapng import MOST_SECTION_INTERFACES, PcapngWalker
from conntrack.errors import CaptureError

__all__ = ["PcapngReader", "Section"]

MOST_OPTIONS = 64
"""Of one block that are looked at for words."""
MOST_TEXT_BYTES = 256
"""Of one option that are kept."""

OPTION_END = 0
SECTION_OS = 3
SECTION_APPLICATION = 4
INTERFACE_NAME = 2
INTERFACE_DESCRIPTION = 3
INTERFACE_FILTER = 11
INTERFACE_OS = 12


Section = tuple[bool, npt.NDArray[np.void]]
"""What packets of a section need of it: whether it is big-endian, and its interfaces (INTERFACE_DTYPE)."""


class PcapngReader:
    """Reads one pcapng file from a stream that is at its first byte, or at a block.

    Args:
        stream: the file's bytes.
        batch: what will be filled.
        section: what was read of the section before, where the stream is in the middle of one.
    """

    def __init__(self, stream: Stream, batch: Batch, section: Section | None = None) -> None:
        self.needed = 12
        self._stream = stream
        self._walker = PcapngWalker(batch.segments, batch.tally, batch.counts, batch.paths.memory)
        if batch.filter:
            self._walker.use_filter(batch.filter)
        self._frames_before = batch.frames
        self._described: npt.NDArray[np.void] = np.zeros(8, INTERFACE_DTYPE)
        if section is None:
            self._walker.use_interfaces(self._described, MOST_DESCRIBED)
        else:
            big_endian, interfaces = section
            if batch.filter:
                for link_type in set(interfaces["link_type"].tolist()):
                    batch.filter.check(link_type, stream.path)
            n = len(interfaces)
            self._described = np.concatenate([interfaces, np.zeros(n + 8, INTERFACE_DTYPE)])
            self._walker.go_on(big_endian, self._described, n, MOST_DESCRIBED)
        self._words: list[tuple[dict[int, str], dict[int, str]]] = []  # of the section, of the interface
        self._section: dict[int, str] = {}

    @property
    def comments(self) -> int:
        """Comments on packets seen so far."""
        return self._walker.comments

    @property
    def section(self) -> Section:
        """The section that reading is in, as far as it was read."""
        return self._walker.big_endian, self._walker.section_interfaces

    def walk(self, batch: Batch) -> bool:
        """Fill `batch` from what the stream holds; see `Reader.walk`.

        Raises:
            InputError: the filter cannot be made for a link type of the file.
        """
        stream, told = self._stream, False
        while True:
            stop, stream.position, batch.rows, self.needed = self._walker.walk(
                stream.data, stream.position, stream.end, batch.rows, told
            )
            match stop:
                case Stop.MORE_INPUT:
                    return False
                case Stop.OUTPUT_FULL:
                    return True
                case Stop.WORDS:
                    self._note_words(stream.peek(self.needed))
                    told = True
                    continue
                case Stop.NO_ROOM:
                    self._grow(batch)
                    told = True
                    continue
                case Stop.NO_PROGRAM:
                    assert batch.filter is not None
                    batch.filter.check(self.needed, stream.path)
                    told = True
                    continue
                case Stop.BAD_LENGTH:
                    raise self._damage(batch, f"a block that claims {self.needed} bytes")
                case Stop.BAD_TRAILER:
                    raise self._damage(batch, "a block whose two lengths differ")
                case Stop.BAD_ORDER:
                    raise self._damage(batch, "a section without the byte-order magic")
                case Stop.BAD_VERSION:
                    raise self._damage(batch, f"a section of version {self.needed}, which does not exist")
                case _:
                    raise self._damage(batch, f"a packet of {self.needed} bytes that does not fit into its block")

    def finish(self, batch: Batch) -> None:
        """Check that the file ends with a whole block; see `Reader.finish`."""
        have = self._stream.available
        if have:
            used = batch.frames - self._frames_before
            where = f"the block after packet {used}" if used else "a block before the first packet"
            raise self._stream.damage(f"cut short in {where} ({have} of {self.needed} bytes", used)

    def interfaces(self) -> list[Interface]:
        """Return the interfaces described so far, of all sections; the first MOST_DESCRIBED of them."""
        return [
            _interface(row, section, words)
            for row, (section, words) in zip(self._described[: self._walker.n_kept], self._words, strict=False)
        ]

    def _damage(self, batch: Batch, what: str) -> CaptureError:
        used = batch.frames - self._frames_before
        where = f"after packet {used}" if used else "before the first packet"
        return self._stream.damage(f"damaged {where} ({what}", used)

    def _note_words(self, block: bytes) -> None:
        is_section = block[:4] == PCAPNG_MAGIC
        big_endian = block[8:12] == b"\x1a\x2b\x3c\x4d" if is_section else self._walker.big_endian
        words = _options(block, 24 if is_section else 16, ">" if big_endian else "<")
        if is_section:
            self._section = words
        else:
            self._words.append((self._section, words))

    def _grow(self, batch: Batch) -> None:
        if self._walker.n_interfaces == MOST_SECTION_INTERFACES:
            raise self._damage(batch, f"a section with more than {MOST_SECTION_INTERFACES} interfaces")
        self._described = np.concatenate([self._described, np.zeros_like(self._described)])
        self._walker.use_interfaces(self._described, MOST_DESCRIBED)


def _options(block: bytes, at: int, order: str) -> dict[int, str]:
    # The first option of each kind, as text; what is no UTF-8 is shown escaped.
    found: dict[int, str] = {}
    end = len(block) - 4
    for _ in range(MOST_OPTIONS):
        if at + 4 > end:
            break
        code, size = struct.unpack_from(order + "HH", block, at)
        if code == OPTION_END:
            break
        value = block[at + 4 : min(at + 4 + min(size, MOST_TEXT_BYTES), end)]
        found.setdefault(code, value.decode(errors="backslashreplace").rstrip("\0"))
        if code == INTERFACE_FILTER:  # its first byte says how it is written: 0 is libpcap's text
            found[code] = found[code][1:] if value[:1] == b"\0" else ""
        at += 4 + size + -size % 4
    return found


def _interface(row: np.void, section: dict[int, str], words: dict[int, str]) -> Interface:
    tells, between = int(row["tells"]), int(row["dropped_between"])
    return Interface(
        link_type=int(row["link_type"]),
        snap_bytes=int(row["snap_bytes"]),
        ts_resolution=_resolution(int(row["resolution"])),
        name=words.get(INTERFACE_NAME, ""),
        description=words.get(INTERFACE_DESCRIPTION, ""),
        filter=words.get(INTERFACE_FILTER, ""),
        os=words.get(INTERFACE_OS, "") or section.get(SECTION_OS, ""),
        application=section.get(SECTION_APPLICATION, ""),
        received=int(row["received"]) if tells & RECEIVED_TOLD else None,
        dropped=int(row["dropped"]) if tells & DROPPED_TOLD else between or None,
    )


def _resolution(resolution: int) -> str:
    if resolution & 0x80:
        return f"2^-{resolution & 0x7F} s"
    return {0: "1 s", 3: "1 ms", 6: "1 us", 9: "1 ns"}.get(resolution, f"10^-{resolution} s")
