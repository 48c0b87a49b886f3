"""The short ways of core/lanes.pxd give what the judges give: the same bytes for any history and public capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from segments import Exchange
from test_machine import CLIENT, SERVER, SETTINGS, captures, conversations, ladder, numbers

from conntrack import CaptureError, InputError, read_segments
from conntrack.core.abi import FLOW_DTYPE
from conntrack.core.step import use_lanes
from conntrack.states import Role, SegmentEvent, TcpState
from conntrack.tracker import Tracker


def told(segments: NDArray[np.void], *, lanes: bool) -> tuple[bytes, dict[tuple[str, str, str], int]]:
    tracker = Tracker(lanes=lanes, validate=True)
    tracker.process(segments)
    rows = np.concatenate([np.empty(0, FLOW_DTYPE), *tracker.finish()])
    return rows.tobytes(), tracker.invalid()


@settings(SETTINGS, max_examples=1_000)
@given(captures())
def test_any_history(segments: NDArray[np.void]) -> None:
    note(ladder(segments))
    assert told(segments, lanes=True) == told(segments, lanes=False)


@settings(SETTINGS, max_examples=1_000)
@given(conversations(), st.data())
def test_clean_connections_but_for_one_field(exchange: Exchange, data: st.DataObject) -> None:
    """Most segments of a clean connection take a short way; one field of one of them changed must be seen."""
    segments = exchange.segments()
    at = data.draw(st.integers(0, len(segments) - 1))
    field = data.draw(
        st.sampled_from(["seq", "ack", "payload_bytes", "wire_bytes", "window", "flags", "ip_id", "tsval"])
    )
    change = data.draw(st.sampled_from([1, -1, 2, 16, 4, 1 << 14, 1 << 30]))
    limit = int(np.iinfo(segments.dtype[field]).max)
    segments[field][at] = (int(segments[field][at]) + change) & limit
    if data.draw(st.booleans()):
        segments["ip_id"] = 0
    note(ladder(segments))
    assert told(segments, lanes=True) == told(segments, lanes=False)


@given(numbers, numbers)
@settings(SETTINGS, max_examples=20)
def test_sequence_numbers_wrap(client_iss: int, server_iss: int) -> None:
    exchange = Exchange(client=CLIENT, server=SERVER, client_iss=client_iss, server_iss=server_iss)
    exchange.client("S").server("S.").client(".").client("P.", 1448).server(".").server("P.", 1448).client(".")
    exchange.client("F.").server(".").server("F.").client(".")
    assert told(exchange.segments(), lanes=True) == told(exchange.segments(), lanes=False)


@pytest.mark.parametrize("behind", [1, 5, 15, 16, 60_000])
@pytest.mark.parametrize("back", [0, 5, 200])
def test_an_id_that_goes_back(behind: int, back: int) -> None:
    """It is not the last id from then on: what comes under that once more may be a frame that is there twice."""
    exchange = Exchange().client("S").server("S.").client(".").client("P.", 100, ip_id=1000)
    exchange.client("P.", 100, ip_id=(1000 - behind) % 2**16).client(".", ip_id=1000 - back).client("P.", 100)
    assert told(exchange.segments(), lanes=True) == told(exchange.segments(), lanes=False)


@pytest.mark.parametrize("last", [0, 1, 2, 3, 17, 65_535])
def test_ids_of_which_some_are_zero(last: int) -> None:
    exchange = Exchange().client("S").server("S.").client(".").client("P.", 100, ip_id=last)
    exchange.client("P.", 100, ip_id=0).server(".").client("P.", 100, ip_id=0).client("P.", 100, ip_id=last)
    assert told(exchange.segments(), lanes=True) == told(exchange.segments(), lanes=False)


def test_public_captures(shared: Path) -> None:
    for path in sorted((shared / "captures").rglob("*")):
        trackers = [Tracker(lanes=lanes) for lanes in (True, False)]
        try:
            for segments in read_segments(path):
                for tracker in trackers:
                    tracker.process(segments)
        except (CaptureError, InputError, IsADirectoryError):
            pass  # what came before is in both
        short, long = (np.concatenate([np.empty(0, FLOW_DTYPE), *tracker.finish()]) for tracker in trackers)
        assert short.tobytes() == long.tobytes(), path.name


@pytest.mark.parametrize("event", [SegmentEvent.SYN, SegmentEvent.SYN_ACK, SegmentEvent.ACK_OF_SYN])
def test_other_rules_have_no_lanes(monkeypatch: pytest.MonkeyPatch, event: SegmentEvent) -> None:
    """A table whose handshake is another is judged by every case."""
    from conntrack import tracker as module

    table = module.compile_table()
    assert use_lanes(Tracker()._table, True)
    state = {"SYN": TcpState.CLOSED, "SYN_ACK": TcpState.LISTEN, "ACK_OF_SYN": TcpState.SYN_SENT}[event.name]
    table[Role.SENT, event, state] = TcpState.CLOSED
    monkeypatch.setattr(module, "compile_table", lambda: table)
    assert not use_lanes(Tracker()._table, True)
