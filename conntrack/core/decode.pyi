from enum import IntEnum

import numpy as np
import numpy.typing as npt

from conntrack.core.memory import DecodeMemory

class Outcome(IntEnum):
    TCP = 0
    ARP = 1
    NOT_IP = 2
    MPLS = 3
    PPPOE = 4
    ENCRYPTED_LINK = 5
    IP_FRAGMENT = 6
    BAD_FRAGMENT = 7
    UDP = 8
    ICMP = 9
    SCTP = 10
    IP_TUNNEL = 11
    TOO_DEEP = 12
    ESP = 13
    OTHER_IP_PROTOCOL = 14
    CUT_SHORT_HEADER = 15
    BAD_IP_HEADER = 16
    BAD_TCP_HEADER = 17
    UNSUPPORTED_LINK_TYPE = 18
    UNKNOWN_INTERFACE = 19
    FILTERED = 20
    OUTCOMES = 21

def decode(
    frame: bytes | npt.NDArray[np.uint8],
    segment: npt.NDArray[np.void],
    link_type: int = 1,
    on_wire: int | None = None,
    memory: DecodeMemory | None = None,
) -> Outcome: ...
