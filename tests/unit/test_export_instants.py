"""The lines of sockets over many instants (export/instants.py) are those that are written one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from conntrack.capture import open_capture
from conntrack.cli import main
from conntrack.core.abi import SOCKET_DTYPE
from conntrack.core.weave import Page, compare, weave
from conntrack.export.columns import SOCKET_COLUMNS
from conntrack.export.instants import InstantLines
from conntrack.export.lines import RowLines
from conntrack.generate import generate
from conntrack.sockets import sockets_at
from conntrack.states import NO_TIME_NS
from conntrack.times import unix_seconds
from conntrack.tracker import Tracker

SOCKETS = st.tuples(
    st.integers(1, 12),  # flow_id
    st.sampled_from([NO_TIME_NS, 0, 1_763_000_000_000_000_000, 1_763_000_000_123_456_789]),
    st.integers(0, 3),  # the last octet of both addresses
    st.integers(0, 65_535),
    st.sampled_from([4, 6]),
    st.integers(0, 10),
    st.integers(0, 3),
)
INSTANTS = st.lists(
    st.tuples(st.sampled_from([0, 999, 1_763_000_000_000_000_000, 2**62]), st.lists(SOCKETS, max_size=30)), max_size=6
)


def rows_of(at_ns: int, sockets: list[tuple[int, ...]]) -> NDArray[np.void]:
    rows = np.zeros(len(sockets), SOCKET_DTYPE)
    for row, (flow_id, since, octet, port, version, state, evidence) in zip(rows, sorted(sockets), strict=True):
        row["flow_id"], row["since_ts_ns"], row["at_ts_ns"] = flow_id, since, at_ns
        for name in ("local_ip", "remote_ip"):
            row[name][10:12] = 255 if version == 4 else 0
            row[name][15] = octet
        row["local_port"], row["ip_version"], row["state"], row["evidence"] = port, version, state, evidence
    return rows


@given(INSTANTS, st.sampled_from(["tsv", "csv", "ndjson"]), st.booleans())
def test_as_if_each_line_was_written_anew(
    instants: list[tuple[int, list[tuple[int, ...]]]], name: str, epoch: bool
) -> None:
    plain, woven = RowLines(name, columns=SOCKET_COLUMNS, epoch=epoch), InstantLines(name, epoch=epoch)
    for at_ns, sockets in instants:
        rows = rows_of(at_ns, sockets)
        assert woven.rows(rows).tobytes() == plain.rows(rows)


def test_what_did_not_change_is_found() -> None:
    before = rows_of(
        5, [(1, 0, 1, 80, 4, 4, 0), (1, 0, 2, 90, 4, 4, 0), (3, 0, 1, 80, 4, 4, 0), (7, 0, 1, 80, 4, 4, 0)]
    )
    rows = np.concatenate([before[1:2], before[2:], rows_of(6, [(9, 0, 1, 80, 4, 4, 0)])])
    rows["at_ts_ns"] = 6
    rows["state"][1] = 7
    same = np.empty(4, np.int32)
    assert compare(before, rows, same) == 2
    assert same.tolist() == [1, -1, 3, -1]


def test_what_does_not_fit_is_refused() -> None:
    none = np.empty(0, np.uint8), np.empty(0, np.int32)
    one = np.zeros(3, np.uint8), np.array([3], np.int32)
    new = np.array([-1], np.int32)
    done = Page()
    weave(new, Page(), one, one, b"x", done)
    assert done.octets().tobytes() == bytes(3) + b"x" + bytes(3)
    for same, before, heads, tails in (
        (np.array([1], np.int32), done, none, none),
        (new, done, none, one),
        (new, done, one, none),
        (new, done, one, (np.zeros(3, np.uint8), np.array([4], np.int32))),
        (new, done, one, (np.zeros(3, np.uint8), np.array([-1], np.int32))),
    ):
        with pytest.raises(ValueError, match=r"line|ends|new|end"):
            weave(same, before, heads, tails, b"x", Page())
    with pytest.raises(ValueError, match="for 1 new lines"):
        weave(new, done, one, one, b"x", done)
    with pytest.raises(TypeError, match="sockets are"):
        compare(np.zeros(1, np.uint8), rows_of(1, []), new)
    with pytest.raises(ValueError, match="no room"):
        compare(rows_of(1, []), rows_of(1, [(1, 0, 1, 80, 4, 4, 0)]), np.empty(0, np.int32))


@pytest.mark.parametrize("format_", ["tsv", "ndjson"])
def test_the_command_writes_them_among_instants_with_few_sockets(tmp_path: Path, format_: str) -> None:
    capture, out = tmp_path / "in.pcap", tmp_path / "out"
    with capture.open("wb") as file:
        generate(file, scenario="mixed", connections=5_000, seed=3)
    with open_capture([capture]) as reading:
        for _ in reading:
            pass
        first_ns, last_ns = reading.info.first_ts_ns, reading.info.last_ts_ns
    assert first_ns is not None and last_ns is not None
    instants = np.linspace(first_ns, last_ns, 25, dtype=np.int64).tolist()
    exporter = RowLines(format_, columns=SOCKET_COLUMNS)
    expected, sizes = exporter.header(), []
    with open_capture([capture]) as reading:
        for _, rows in sockets_at(reading, Tracker(), instants):
            expected += exporter.rows(rows)
            sizes.append(len(rows))
    assert min(sizes) < 1_024 < np.median(sizes)  # both ways of cli/sockets.py
    times = [each for at_ns in instants for each in ("--at", unix_seconds(at_ns))]
    assert main(["sockets", str(capture), "--format", format_, "-o", str(out), *times]) == 0
    assert out.read_bytes() == expected
