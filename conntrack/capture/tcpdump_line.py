"""One packet as tcpdump prints it: from words to numbers.

Owns the grammar of a printed packet: time, link layer (-e), IP (-v), TCP with its options. Every search is linear in
the length of the text, whatever it holds. Read tcpdump's print.c, util-print.c (times), print-ip.c, print-tcp.c.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from functools import lru_cache

from conntrack.core.abi import HAS_FAST_OPEN, HAS_SACK, HAS_SACK_PERMITTED, HAS_TIMESTAMP
from conntrack.core.decode import Outcome

__all__ = ["TIME", "Printed", "Unknown", "address_of", "is_packet", "outcome_of", "parse", "port_of"]

TIME = re.compile(
    r"(?P<epoch>\d{1,12})\.(?P<epoch_fraction>\d{6,10}) "
    r"|(?P<sign>[ -])?(?:(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d) )?"
    r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)\.(?P<fraction>\d{6,10}) "
)
"""-tt, or HH:MM:SS with a date (-tttt), or with a sign (-ttt, -ttttt)."""
_START = re.compile(
    r" *(?:\S{1,32} +)?(?:In|Out|M|B|P) +|(?:IP6? |ip: |ARP|PPPoE |MPLS |(?:[0-9a-f]{2}:){5}[0-9a-f]{2} |[\w-]{1,32}, )"
)
"""How a packet begins after its time; `eth0 In` on interface any."""
_IPV4_ALONE = "IP (tos 0x"
"""-v without a time: the addresses are on the next line."""
_PACKET = re.compile(r"ethertype |: Flags \[|, length \d|: tcp \d")
"""What is printed of packets of other link layers."""

_FLAGS = re.compile(r": Flags \[([FSRPUEWe.]+|none)\]")
_FIELDS = re.compile(
    r"(?:, cksum 0x[0-9a-f]{1,4}(?: \([^)]{1,60}\))?)?(?:, seq (\d{1,10})(?::(\d{1,10}))?)?(?:, ack (\d{1,10}))?"
    r"(?:, win (\d{1,5}))?(?:, urg \d{1,5})?(?:, options \[(.{0,600}?)\](?=, length |$))?(?:, length (\d{1,6}))?"
)
_OPTION = re.compile(r"mss (\d+)|wscale (\d+)|TS val (\d+) ecr (\d+)|sackOK|sack (\d+) |(tfo|exp-tfo)|nop|eol|md5")
_HOPS = re.compile(r"(?:ttl|hlim) (\d{1,3})")
_ID = re.compile(r", id (\d{1,5}), ")
_FRAME_LENGTH = re.compile(r", length (\d{1,7}): ")
_QUIET = re.compile(r": tcp \d+$")
_LETTERS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128, "e": 256}
_ETHERNET_BYTES = 14
_SERVICES = {"ssh": 22, "domain": 53, "http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "http-alt": 8080}
"""For systems without a list of services."""


class Unknown(Exception):  # the caller turns it into an error, with file and line
    """A word that stands for a number and is not known here; the argument says which."""


@dataclass(slots=True)
class Printed:
    """What is printed of one TCP segment: SEGMENT_DTYPE's fields by their names, names of hosts still as they are."""

    source: str
    target: str
    src_port: str
    dst_port: str
    ip6: bool
    flags: int
    seq: int | None
    ack: int
    window: int
    payload_bytes: int
    wire_bytes: int
    options: int = 0
    mss: int = 0
    window_scale: int = 255
    tsval: int = 0
    tsecr: int = 0
    ttl: int = 0
    ip_id: int = 0


def is_packet(line: str, time: re.Match[str] | None) -> bool:
    """Return whether a line begins a packet; `time` is TIME's match on it."""
    at = time.end() if time else 0
    if not _START.match(line, at) and not _PACKET.search(line, at):
        return False
    return time is not None or " > " in line or "ARP" in line[:200] or line.startswith(_IPV4_ALONE)


def parse(text: str) -> Printed | None:
    """Return the segment that a printed packet is, without its time and with -v on one line; None if it is no TCP.

    Raises:
        ValueError: it is TCP, and cut short.
        Unknown: printed with -q.
    """
    found = _FLAGS.search(text)
    if found is None:
        if _QUIET.search(text):
            raise Unknown("-q leaves out flags and numbers; print without it")
        return None
    head = text[: found.start()]
    source, target = _endpoints(head)
    fields = _FIELDS.match(text, found.end())
    assert fields is not None  # every part of it is optional
    seq, _, ack, window, options, length = fields.groups()
    if length is None or window is None:
        raise ValueError("cut short")
    flags = 0 if found[1] == "none" else sum(_LETTERS[letter] for letter in set(found[1]))
    printed = Printed(
        *source[:1],
        *target[:1],
        source[1],
        target[1],
        ip6="IP6 " in head[:80] or "IPv6" in head[:160] or ":" in source[0],
        flags=flags,
        seq=None if seq is None else int(seq) & 0xFFFFFFFF,
        ack=int(ack or 0) & 0xFFFFFFFF,
        window=int(window) & 0xFFFF,
        payload_bytes=int(length),
        wire_bytes=0,
    )
    header_bytes = 20 + _options(options or "", printed)
    frame = _FRAME_LENGTH.search(head)
    ip_bytes = 40 if printed.ip6 else 20
    if frame:
        printed.wire_bytes = int(frame[1])
    else:  # `ip:` is what -e says where there is no link layer
        link_bytes = 0 if head.startswith("ip: ") else _ETHERNET_BYTES
        printed.wire_bytes = link_bytes + ip_bytes + header_bytes + printed.payload_bytes
    if "(" in head:
        hops, number = _HOPS.search(head), _ID.search(head)
        printed.ttl = int(hops[1]) & 0xFF if hops else 0
        printed.ip_id = int(number[1]) & 0xFFFF if number else 0
    return printed


def _endpoints(head: str) -> tuple[tuple[str, str], tuple[str, str]]:
    # The words around the last >; behind IPv6 extension headers only ports stand there, and the addresses before.
    before, arrow, target = head.rpartition(" > ")
    source = before.rpartition(" ")[2]
    if not arrow or " " in target or not source or not target:
        raise ValueError("cut short")
    if source.isdigit() and target.isdigit():
        earlier, arrow, rest = before.rpartition(" > ")
        address, colon, _ = rest.partition(": ")
        if not arrow or not colon:
            raise ValueError("cut short")
        return (earlier.rpartition(" ")[2], source), (address, target)
    return _split(source), _split(target)


def _split(text: str) -> tuple[str, str]:
    """Return host and port of `10.0.0.1.80`, `2001:db8::1.80` or `host.example.ssh`."""
    host, dot, port = text.rpartition(".")
    if not dot or not host or not port:
        raise ValueError("cut short")
    return host, port


def _options(text: str, printed: Printed) -> int:
    # Fill in what the options say; return the bytes they took.
    size = 0
    for option in _OPTION.finditer(text):
        mss, scale, value, echo, blocks, fast_open = option.groups()
        if mss:
            size, printed.mss = size + 4, int(mss) & 0xFFFF
        elif scale:
            size, printed.window_scale = size + 3, min(int(scale), 14)
        elif value:
            size, printed.tsval, printed.tsecr = size + 10, int(value) & 0xFFFFFFFF, int(echo) & 0xFFFFFFFF
            printed.options |= HAS_TIMESTAMP
        elif option[0] == "sackOK":
            size += 2
            printed.options |= HAS_SACK_PERMITTED
        elif blocks:
            size += 2 + 8 * min(int(blocks), 4)
            printed.options |= HAS_SACK
        elif fast_open:
            size += 2
            printed.options |= HAS_FAST_OPEN
        else:
            size += 18 if option[0] == "md5" else 1
    if not printed.flags & 2:  # read in SYNs only, as of frames (RFC 9293 section 3.2, RFC 7323 section 1.3)
        printed.mss, printed.window_scale = 0, 255
        printed.options &= ~HAS_SACK_PERMITTED
    return min(size + -size % 4, 40)


def outcome_of(text: str) -> Outcome:
    """Return what a printed packet that is no TCP was, as far as its words tell."""
    if "ARP" in text[:120]:
        return Outcome.ARP
    head, _, rest = text.partition(": ")
    source, arrow, target = head.rpartition(" > ")
    if "ICMP" in rest[:200] or "ICMP" in head:
        return Outcome.ICMP
    if not arrow or "IP" not in text[:160]:
        return Outcome.NOT_IP
    if rest.startswith("GRE"):
        return Outcome.IP_TUNNEL
    if rest.startswith(("tcp", "frag")) or " frag (" in rest:
        return Outcome.IP_FRAGMENT
    if rest.startswith("sctp"):
        return Outcome.SCTP
    if rest.startswith("ESP"):
        return Outcome.ESP
    source = source.rpartition(" ")[2]
    with_port = [_has_port(end) for end in (source, target)]
    return Outcome.UDP if all(with_port) else Outcome.OTHER_IP_PROTOCOL


def _has_port(end: str) -> bool:
    return "." in end if ":" in end else end.count(".") != 3


@lru_cache(maxsize=4096)
def port_of(word: str) -> int:
    """Return the number of a port or of a TCP service.

    Raises:
        Unknown: no such service on this system.
    """
    if word.isdigit() and len(word) < 6 and int(word) < 65536:
        return int(word)
    try:
        return socket.getservbyname(word, "tcp")
    except (OSError, UnicodeError):
        if word in _SERVICES:
            return _SERVICES[word]
        raise Unknown(f"port '{word[:40]}' is no service known here; print numbers with -nn") from None


@lru_cache(maxsize=4096)
def address_of(word: str) -> bytes | None:
    """Return an address as SEGMENT_DTYPE has it, None for a host's name."""
    try:
        address = ipaddress.ip_address(word.partition("%")[0])
    except ValueError:
        return None
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
