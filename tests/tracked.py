"""Runs segments through the tracker, with every check of its own switched on, and asks it short questions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from model import Row
from numpy.typing import NDArray
from segments import Exchange

from conntrack.core.abi import FLOW_DTYPE
from conntrack.states import FlowFlag, TcpState
from conntrack.tracker import Tracker

__all__ = ["after_each", "agreed", "ends", "flags_of", "row_of", "track"]

Pair = tuple[TcpState, TcpState]


def track(
    capture: Exchange | NDArray[np.void], *, cuts: Iterable[int] = (), at_ns: int | None = None, profile: str = "linux"
) -> NDArray[np.void]:
    """Every connection of a capture, each in its state at `at_ns` (or at the end), by flow_id.

    Args:
        capture: an exchange, or segments.
        cuts: where the segments are cut into batches.
        at_ns: the instant asked for; the default is the latest time in the capture.
        profile: whose timers.
    """
    segments = capture.segments() if isinstance(capture, Exchange) else capture
    tracker = Tracker(profile=profile, validate=True)
    parts = []
    edges = [0, *sorted(cuts), len(segments)]
    for start, end in pairwise(edges):
        tracker.process(segments[start:end])
        parts += list(tracker.retired())
    live = tracker.snapshot(at_ns)
    over = np.concatenate([np.zeros(0, dtype=FLOW_DTYPE), *parts, *tracker.finish()])
    rows = np.concatenate([over[~np.isin(over["flow_id"], live["flow_id"])], live])
    return rows[np.argsort(rows["flow_id"], kind="stable")]


def row_of(exchange: Exchange, after_s: float = 0.0) -> np.void:
    """The last connection of an exchange, `after_s` seconds after its last segment."""
    segments = exchange.segments()
    at_ns = None if not after_s else int(segments["ts_ns"].max()) + round(after_s * 1e9)
    return track(segments, at_ns=at_ns)[-1]


def ends(exchange: Exchange, after_s: float = 0.0) -> Pair:
    """The states of client and server of the last connection of an exchange."""
    row = row_of(exchange, after_s)
    return TcpState(row["client_state"]), TcpState(row["server_state"])


def after_each(segments: NDArray[np.void]) -> list[Pair]:
    """The states of client and server of the newest connection, after each segment."""
    tracker = Tracker(validate=True)
    pairs = []
    for index in range(len(segments)):
        tracker.process(segments[index : index + 1])
        row = tracker.snapshot()[-1]
        pairs.append((TcpState(row["client_state"]), TcpState(row["server_state"])))
    return pairs


def flags_of(exchange: Exchange) -> FlowFlag:
    """What was special about the last connection of an exchange."""
    return FlowFlag(int(row_of(exchange)["flags"]))


def agreed(rows: NDArray[np.void]) -> list[Row]:
    """Flow records as the model tells them."""
    return sorted(
        Row(
            int(row["flow_id"]),
            int(row["generation"]),
            (row["client_ip"].tobytes(), int(row["client_port"])),
            (row["server_ip"].tobytes(), int(row["server_port"])),
            TcpState(row["client_state"]),
            TcpState(row["server_state"]),
            int(row["client_since_ts_ns"]),
            int(row["server_since_ts_ns"]),
            int(row["first_ts_ns"]),
            int(row["last_ts_ns"]),
            int(row["client_packets"]),
            int(row["server_packets"]),
        )
        for row in rows
    )


def sorted_bytes(batches: Iterable[np.ndarray]) -> bytes:
    """All rows of batches of FLOW_DTYPE, sorted by flow_id, as they are."""
    rows = np.concatenate([np.empty(0, FLOW_DTYPE), *(batch.copy() for batch in batches)])
    return rows[np.argsort(rows["flow_id"], kind="stable")].tobytes()
