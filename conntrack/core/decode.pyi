from enum import IntEnum

import numpy as np
import numpy.typing as npt

class Outcome(IntEnum):
    TCP = 0
    ARP = 1
    NOT_IP = 2
    MPLS = 3
    PPPOE = 4
    IP_FRAGMENT = 5
    UDP = 6
    ICMP = 7
    SCTP = 8
    IP_TUNNEL = 9
    ESP = 10
    OTHER_IP_PROTOCOL = 11
    CUT_SHORT_HEADER = 12
    BAD_IP_HEADER = 13
    BAD_TCP_HEADER = 14
    UNSUPPORTED_LINK_TYPE = 15
    UNKNOWN_INTERFACE = 16
    FILTERED = 17
    OUTCOMES = 18

def decode(
    frame: bytes | npt.NDArray[np.uint8],
    segment: npt.NDArray[np.void],
    link_type: int = 1,
    on_wire: int | None = None,
) -> Outcome: ...
