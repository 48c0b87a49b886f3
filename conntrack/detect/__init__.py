"""Detectors: what is wrong, said of connections. They read arrays of FLOW_DTYPE and nothing else: no packet, no
tracker.

Everything here takes batches in any split and order, merges, and then says the same (counting.py has how). Start with
`finding.py` (what is said), `options.py` (the thresholds), `detection.py` (how all of it is fed), then a detector.
"""

from __future__ import annotations

from typing import Any

from conntrack.detect.accept_queue import AcceptQueueOverflow
from conntrack.detect.capture_loss import CaptureLoss
from conntrack.detect.close_wait import CloseWaitLeak
from conntrack.detect.connection_refused import ConnectionRefused
from conntrack.detect.detection import Detection
from conntrack.detect.duplicates import DuplicateFrames
from conntrack.detect.fin_wait_2 import FinWait2Stuck
from conntrack.detect.finding import SEVERITIES, Detector, Finding, Severity
from conntrack.detect.last_ack import LastAckStuck
from conntrack.detect.one_sided import OneSidedCapture
from conntrack.detect.options import DetectOptions
from conntrack.detect.port_scan import PortScan
from conntrack.detect.reset_storm import ResetStorm
from conntrack.detect.series import StateSeries
from conntrack.detect.services import ServiceSummary
from conntrack.detect.syn_flood import SynFlood
from conntrack.detect.time_wait import TimeWaitBuildup
from conntrack.detect.unanswered_syn import UnansweredSyn
from conntrack.detect.zero_window import ZeroWindowStall

__all__ = [
    "DETECTORS",
    "SEVERITIES",
    "AcceptQueueOverflow",
    "CaptureLoss",
    "CloseWaitLeak",
    "ConnectionRefused",
    "DetectOptions",
    "Detection",
    "Detector",
    "DuplicateFrames",
    "FinWait2Stuck",
    "Finding",
    "LastAckStuck",
    "OneSidedCapture",
    "PortScan",
    "ResetStorm",
    "ServiceSummary",
    "Severity",
    "StateSeries",
    "SynFlood",
    "TimeWaitBuildup",
    "UnansweredSyn",
    "ZeroWindowStall",
]

DETECTORS: tuple[Any, ...] = (
    SynFlood,
    CloseWaitLeak,
    TimeWaitBuildup,
    AcceptQueueOverflow,
    ResetStorm,
    PortScan,
    UnansweredSyn,
    ConnectionRefused,
    ZeroWindowStall,
    FinWait2Stuck,
    LastAckStuck,
    OneSidedCapture,
    CaptureLoss,
    DuplicateFrames,
)
"""The detectors there are, in the order in which equal findings are told. Each is made from DetectOptions."""
