"""What a capture says about the interfaces it was taken on, as far as its format has a place for it.

Owns `Interface` only; each reader fills it in from its own format (`reader.interfaces()`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MOST_DESCRIBED", "Interface"]

MOST_DESCRIBED = 1024
"""Interfaces of one file that are described; of more, only the packets are read. It bounds the memory they take."""


@dataclass(slots=True)
class Interface:
    """One interface of a capture. Empty text, 0 or None: the capture does not say.

    Attributes:
        link_type: LINKTYPE_* number (https://www.tcpdump.org/linktypes.html).
        snap_bytes: frames were cut to this length, 0 without a limit.
        ts_resolution: the unit of the clock in words: "1 us", "1 ns", "2^-32 s".
        name: of the interface in the system that captured ("eth0").
        description: what the user calls it.
        filter: the capture filter that was in force.
        os: the system that captured.
        application: the program that wrote the file.
        received: packets that reached the interface while it was captured.
        dropped: packets that the interface or the system lost for want of resources; they are not in the file.
    """

    link_type: int
    snap_bytes: int = 0
    ts_resolution: str = "1 us"
    name: str = ""
    description: str = ""
    filter: str = ""
    os: str = ""
    application: str = ""
    received: int | None = None
    dropped: int | None = None
