"""The outer paths of segments, in words, and the memory that the decoder keeps them in.

Owns the arrays of core.memory (their sizes are the limits of what is remembered) and the text of a path, such as
"eth/vlan 12/ipv4 192.0.2.1>192.0.2.9/udp/vxlan 42". Read core/paths.pyx and core/fragments.pyx.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from conntrack.capture.linklayer import link_type_name
from conntrack.core.memory import FRAGMENTED_DTYPE, JOURNAL_DTYPE, PATH_DTYPE, DecodeMemory
from conntrack.core.paths import Token
from conntrack.memory import Reservation

__all__ = ["MOST_PATHS", "OTHER_PATHS", "Paths", "Waiting", "path_text"]

MOST_PATHS = 65_535
"""Paths that are told apart, path 0 (plain frames) included: SEGMENT_DTYPE.path has 16 bits, and the last is taken."""
OTHER_PATHS = 65_535
"""The number that all later paths share."""
SLOTS = 1 << 17
MOST_FRAGMENTED = 1024
"""IP packets that are put together at one time, in sets of 8: 1.4 MB."""

_LINKS = {1: "eth", 0: "null", 105: "wlan", 113: "sll", 127: "radiotap", 276: "sll2"}

_WORDS: dict[Token, tuple[str, int]] = {
    Token.TOKEN_VLAN: ("vlan {}", 4),
    Token.TOKEN_PBB: ("pbb {}", 4),
    Token.TOKEN_VNTAG: ("vntag", 0),
    Token.TOKEN_FABRICPATH: ("fabricpath", 0),
    Token.TOKEN_MPLS: ("mpls {}", 4),
    Token.TOKEN_PPPOE: ("pppoe {}", 4),
    Token.TOKEN_WLAN: ("wlan", 0),
    Token.TOKEN_IPV4: ("ipv4 {}>{}", 8),
    Token.TOKEN_IPV6: ("ipv6 {}>{}", 32),
    Token.TOKEN_GRE: ("gre", 0),
    Token.TOKEN_GRE_KEY: ("gre {}", 4),
    Token.TOKEN_NVGRE: ("nvgre {}", 4),
    Token.TOKEN_PPTP: ("pptp", 0),
    Token.TOKEN_ERSPAN: ("gre/erspan {}", 4),
    Token.TOKEN_ETHERIP: ("etherip", 0),
    Token.TOKEN_VXLAN: ("udp/vxlan {}", 4),
    Token.TOKEN_GENEVE: ("udp/geneve {}", 4),
    Token.TOKEN_GTP: ("udp/gtp {}", 4),
    Token.TOKEN_TEREDO: ("udp/teredo", 0),
    Token.TOKEN_L2TP: ("udp/l2tp {}/{}", 4),
    Token.TOKEN_UDP: ("udp", 0),
}
"""What each token of a description is in words, and the bytes that follow it."""


Waiting = tuple[npt.NDArray[np.intp], npt.NDArray[np.void], int]
"""IP packets that wait for pieces: their places in the table, their records, and how many came before."""


class Paths(Sequence[str]):
    """The outer paths of a capture's segments: `paths[segment["path"]]`, as text.

    A path is the link's name and the layers between it and the innermost IP header, with their identifiers and, for
    those that have them, their addresses as that segment had them (source>destination). Path 0 is "": frames without
    anything of the kind. `len(paths)` are in use; OTHER_PATHS is "others" and not counted.

    Attributes:
        memory: what the kernels of core.walk keep from frame to frame.
    """

    def __init__(self) -> None:
        # Reserved, and taken page by page: np.zeros of this size costs a millisecond or ten, a reservation 10 us.
        self._records: npt.NDArray[np.void] = _reserve(MOST_PATHS, PATH_DTYPE)
        self._fragmented: npt.NDArray[np.void] = _reserve(MOST_FRAGMENTED, FRAGMENTED_DTYPE)
        self._slots = slots = _reserve(SLOTS, np.dtype(np.uint32))
        self._journal: npt.NDArray[np.void] = np.zeros(1, JOURNAL_DTYPE)
        self._journal["paths"] = 1
        self.memory = DecodeMemory(self._fragmented, self._records, slots, self._journal)

    @property
    def unnumbered(self) -> int:
        """Segments whose path is one of "others": there were more than can be told apart."""
        return int(self._journal["unnumbered"][0])

    @property
    def incomplete(self) -> int:
        """IP packets of which pieces came, but never all: what TCP they held is not known."""
        waiting = np.count_nonzero(self._fragmented["arrival"]) if self._journal["arrivals"][0] else 0
        return int(self._journal["evicted"][0] + self._journal["expired"][0]) + int(waiting)

    @property
    def met_fragments(self) -> bool:
        """Whether any IP packet came in pieces."""
        return bool(self._journal["arrivals"][0])

    @property
    def lost(self) -> int:
        """IP packets that were waited for until there was no room, or they were too old."""
        return int(self._journal["evicted"][0] + self._journal["expired"][0])

    @property
    def trails(self) -> list[bytes]:
        """The descriptions of the paths in use by number (core/paths.pxd), that of plain frames first: empty."""
        used = self._records[: len(self)]
        return [trail.tobytes()[:size] for trail, size in zip(used["trail"], used["trail_bytes"], strict=True)]

    def waiting(self) -> Waiting | None:
        """Return the IP packets that wait for pieces, None if there are none: what `resume` takes."""
        if not self.met_fragments:
            return None
        places = np.flatnonzero(self._fragmented["arrival"])
        return (places, self._fragmented[places], int(self._journal["arrivals"][0])) if len(places) else None

    def resume(self, waiting: Waiting | None) -> None:
        """Go on with IP packets that wait for pieces; `self` is new."""
        if waiting is not None:
            places, packets, arrivals = waiting
            self._fragmented[places] = packets
            self._journal["arrivals"] = arrivals

    def load(self, trails: Sequence[bytes]) -> None:
        """Have the paths of `trails` numbered already, as they are there; `self` is new."""
        for number, trail in enumerate(trails[1:], 1):
            record = self._records[number]
            record["trail"][: len(trail)] = np.frombuffer(trail, np.uint8)
            record["trail_bytes"] = len(trail)
            record["hash"] = hashed = path_hash(trail)
            slot = hashed % SLOTS
            while self._slots[slot]:
                slot = (slot + 1) % SLOTS
            self._slots[slot] = number
            self._journal["paths"] = number + 1

    def __len__(self) -> int:
        return int(self._journal["paths"][0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if number == OTHER_PATHS:
            return "others"
        if not 0 <= number < len(self):
            raise IndexError(f"path {number} of {len(self)}")
        record = self._records[number]
        return path_text(record["trail"].tobytes()[: record["trail_bytes"]])


def _reserve(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return Reservation(count, dtype, least=count).records


def path_hash(trail: bytes) -> int:
    """Return the hash of a path's description (core/paths.pyx: FNV-1a, folded)."""
    value = 2166136261
    for byte in trail:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value ^ value >> 15


def path_text(trail: bytes) -> str:
    """Return a path's description (core/paths.pxd) in words: "" for an empty one."""
    if len(trail) <= 2:
        return ""
    link_type = int.from_bytes(trail[:2])
    words = [_LINKS.get(link_type) or link_type_name(link_type).lower()]
    at = 2
    while at < len(trail):
        if trail[at] == Token.TOKEN_REST:
            words.append("...")
            break
        word, size = _WORDS[Token(trail[at])]
        value = trail[at + 1 : at + 1 + size]
        at += 1 + size
        if trail[at - 1 - size] == Token.TOKEN_L2TP:
            words.append(word.format(int.from_bytes(value[:2]), int.from_bytes(value[2:])))
        elif size == 4:
            words.append(word.format(int.from_bytes(value)))
        else:
            ends = (str(ipaddress.ip_address(end)) for end in (value[: size // 2], value[size // 2 :]) if end)
            words.append(word.format(*ends))
    return "/".join(words)
