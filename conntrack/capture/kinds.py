"""What an input is, told by its first bytes and never by its name.

Owns the magic numbers, and what is said of an input that is no capture of ours: what it looks like, and how to turn it
into one. Reads nothing. The numbers are those of file(1), libpcap (sf-pcap.c) and Wireshark (wiretap).
"""

from __future__ import annotations

import re
import shlex

from conntrack.errors import InputError

__all__ = [
    "HEAD_BYTES",
    "MAGIC_BYTES",
    "PCAPNG_MAGIC",
    "PCAP_MAGICS",
    "SNOOP_MAGIC",
    "foreign_name",
    "kind_of",
    "not_a_capture",
]

MAGIC_BYTES = 4
"""Bytes that tell a capture. No more are waited for: a pipe may bring the first packet much later."""
HEAD_BYTES = 512
"""Bytes that are looked at in anything else."""

PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
"""Type of the section header block, the same in both byte orders."""

PCAP_MAGICS: dict[int, tuple[int, int, int]] = {
    0xA1B2C3D4: (1000, 24, 16),
    0xA1B23C4D: (1, 24, 16),
    0xA1B2CD34: (1000, 24, 24),
    0x1C0001AC: (1, 28, 16),
    0x1C0001AB: (1000, 28, 16),
}
"""Magic number -> nanoseconds in a unit of the second time field, bytes of the file header and of a record header.

In this order: pcap, with nanoseconds, modified by Kuznetzov, IXIA's of hardware and of software (whose file header ends
with the length of all records).
"""

SNOOP_MAGIC = b"snoop\x00\x00\x00"
"""RFC 1761 section 3."""

_ARCHIVES: tuple[tuple[bytes, str, str], ...] = ((b"PK\x03\x04", "a zip archive", "unzip -p"),)

_OTHER_CAPTURES: tuple[tuple[bytes, str], ...] = (
    (b"btsnoop\x00", "a Bluetooth snoop capture"),
    (b"RTSS", "a Network Monitor 1 capture"),
    (b"GMBU", "a Network Monitor 2 capture"),
    (b"TRSNIFF data    \x1a", "a DOS Sniffer capture"),
    (b"XCP\x00", "a NetXRay capture"),
    (b"\x7fver", "an OmniPeek capture"),
    (b"iptrace ", "an AIX iptrace capture"),
    (b"LOGG", "a Vector BLF capture"),
    (b"\xa1\xb2\x34\xcd", "a capture in a variant of pcap"),
    (b"\xcd\x34\xb2\xa1", "a capture in a variant of pcap"),
    (b"\xa1\x2b\x3c\x4d", "a capture in a variant of pcap"),
    (b"\x4d\x3c\x2b\xa1", "a capture in a variant of pcap"),
    (b"\xa1\xe2\xcb\x12", "a capture in a variant of pcap"),
    (b"\x12\xcb\xe2\xa1", "a capture in a variant of pcap"),
)

_PROGRAMS = (b"\x7fELF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"MZ")
"""Programs and pictures: known, and no captures."""
_BINARY = "binary data that begins with"

_TEXTS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"\s*(<!DOCTYPE html|<html)", re.IGNORECASE), "an HTML page", ""),
    (re.compile(rb"\s*<\?xml"), "XML", ""),
    (re.compile(rb"\s*[\[{]\s*[\[{\"\]}]"), "JSON", ""),
)


def kind_of(magic: bytes) -> str | None:
    """Return "pcap", "pcapng" or "snoop", whichever begins with these four bytes, None when none does."""
    if magic == PCAPNG_MAGIC:
        return "pcapng"
    if magic == SNOOP_MAGIC[:MAGIC_BYTES]:
        return "snoop"
    if int.from_bytes(magic, "little") in PCAP_MAGICS or int.from_bytes(magic, "big") in PCAP_MAGICS:
        return "pcap"
    return None


def foreign_name(head: bytes) -> str | None:
    """Return what an input may be that Wireshark reads and we do not; None if it is plainly no capture (text).

    Some formats have no magic number (ERF), so that anything binary may be one.
    """
    for magic, name in _OTHER_CAPTURES:
        if head.startswith(magic):
            return name
    if not head or head.startswith((*_PROGRAMS, *(magic for magic, *_ in _ARCHIVES))):
        return None
    looks, _ = _describe(head)
    return looks if looks.startswith(_BINARY) else None


def not_a_capture(path: str, head: bytes) -> InputError:
    """Return the error for an input that is neither pcap nor pcapng: what it looks like, and the next step.

    Args:
        path: the input's name, for the message and the command in it.
        head: its first HEAD_BYTES bytes, or all if it has fewer.
    """
    if not head:
        return InputError(f"{path}: empty (0 bytes); did the program that writes it fail?")
    for magic, name, command in _ARCHIVES:
        if head.startswith(magic):
            source = command if path == "-" else f"{command} {shlex.quote(path)}"
            return InputError(f"{path}: {name}, which this version does not read; use: {source} | ctrack -")
    for magic, name in _OTHER_CAPTURES:
        if head.startswith(magic):
            return InputError(
                f"{path}: {name}, which needs Wireshark's editcap to be read; install the package wireshark-common"
            )
    looks, advice = _describe(head)
    return InputError(f"{path}: not a capture (looks like {looks}); {advice or 'give a pcap or pcapng file'}")


def _describe(head: bytes) -> tuple[str, str]:
    for pattern, name, advice in _TEXTS:
        if pattern.match(head):
            return name, advice
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if len(head) - error.start < 4 else "\x00"  # a letter cut at the end
    if text and all(letter.isprintable() or letter in "\t\r\n\f\x1b" for letter in text):
        return "plain text", ""
    return f"{_BINARY} {head[:4].hex(' ')}", ""
