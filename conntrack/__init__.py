"""TCP connections of captures: both endpoints' RFC 9293 states at any instant, and what is wrong with them.

Only names here, found when first used: `ctrack --help` goes through this module and loads no numpy. Start with
`analyze` for a report, `track` for the connections, `Tracker` for your own segments.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conntrack.core.abi import FLOW_DTYPE, SEGMENT_DTYPE
    from conntrack.detect.finding import Finding
    from conntrack.detect.options import DetectOptions
    from conntrack.errors import CaptureError, ConntrackError, InputError
    from conntrack.pipeline import analyze, read_segments, track
    from conntrack.report.model import Report
    from conntrack.states import (
        NO_TIME_NS,
        ClosedBy,
        DirectionEvidence,
        EndReason,
        Evidence,
        FlowFlag,
        TcpState,
    )
    from conntrack.tracker import Tracker

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
    "SYN_RECEIVED",
    "SYN_SENT",
    "TIME_WAIT",
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
    "read_segments",
    "track",
]

_HOMES = {
    "FLOW_DTYPE": "core.abi",
    "SEGMENT_DTYPE": "core.abi",
    "Finding": "detect.finding",
    "DetectOptions": "detect.options",
    "CaptureError": "errors",
    "ConntrackError": "errors",
    "InputError": "errors",
    "analyze": "pipeline",
    "read_segments": "pipeline",
    "track": "pipeline",
    "Report": "report.model",
    "Tracker": "tracker",
}
"""Where each name lives; those that are not here are in states.py, or members of TcpState."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES.get(name, 'states')}")
    value = getattr(home, name) if hasattr(home, name) else home.TcpState[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
