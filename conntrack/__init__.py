"""conntrack: both endpoints' RFC 9293 states for every TCP connection of a capture, and what is wrong with them.

    import conntrack

    report = conntrack.analyze("big.pcap")
    for batch in conntrack.track("big.pcap"):                  # finished connections, numpy FLOW_DTYPE
        print(batch["server_state"])
    tracker = conntrack.Tracker(profile="linux")
    for segments in conntrack.read_segments("big.pcap"):
        tracker.process(segments)
    leaks = tracker.flows[tracker.flows["server_state"] == conntrack.CLOSE_WAIT]

Importing the package imports nothing but the words of states.py; what is used is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import CaptureError, ConntrackError, InputError
from .states import (
    NO_TIME_NS,
    ClosedBy,
    DirectionEvidence,
    EndReason,
    Evidence,
    FlowFlag,
    TcpState,
)

if TYPE_CHECKING:
    from .capture.pyshark import from_pyshark
    from .core.abi import FLOW_DTYPE, SEGMENT_DTYPE, SOCKET_DTYPE
    from .detect.finding import Finding
    from .detect.options import DetectOptions
    from .export.arrow import ArrowTable, to_arrow
    from .pipeline import analyze, read_segments, track
    from .report.model import Report
    from .tracker import Tracker

__all__ = [
    "CLOSED",
    "CLOSE_WAIT",
    "CLOSING",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "FLOW_DTYPE",
    "LAST_ACK",
    "LISTEN",
    "NO_TIME_NS",
    "SEGMENT_DTYPE",
    "SOCKET_DTYPE",
    "SYN_RECEIVED",
    "SYN_SENT",
    "TIME_WAIT",
    "ArrowTable",
    "CaptureError",
    "ClosedBy",
    "ConntrackError",
    "DetectOptions",
    "DirectionEvidence",
    "EndReason",
    "Evidence",
    "Finding",
    "FlowFlag",
    "InputError",
    "Report",
    "TcpState",
    "Tracker",
    "analyze",
    "from_pyshark",
    "read_segments",
    "to_arrow",
    "track",
]

CLOSED = TcpState.CLOSED
LISTEN = TcpState.LISTEN
SYN_SENT = TcpState.SYN_SENT
SYN_RECEIVED = TcpState.SYN_RECEIVED
ESTABLISHED = TcpState.ESTABLISHED
FIN_WAIT_1 = TcpState.FIN_WAIT_1
FIN_WAIT_2 = TcpState.FIN_WAIT_2
CLOSE_WAIT = TcpState.CLOSE_WAIT
CLOSING = TcpState.CLOSING
LAST_ACK = TcpState.LAST_ACK
TIME_WAIT = TcpState.TIME_WAIT

_LAZY = {
    "FLOW_DTYPE": "conntrack.core.abi",
    "SEGMENT_DTYPE": "conntrack.core.abi",
    "DetectOptions": "conntrack.detect.options",
    "SOCKET_DTYPE": "conntrack.core.abi",
    "Finding": "conntrack.detect.finding",
    "Report": "conntrack.report.model",
    "ArrowTable": "conntrack.export.arrow",
    "Tracker": "conntrack.tracker",
    "analyze": "conntrack.pipeline",
    "from_pyshark": "conntrack.capture.pyshark",
    "read_segments": "conntrack.pipeline",
    "to_arrow": "conntrack.export.arrow",
    "track": "conntrack.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'conntrack' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
