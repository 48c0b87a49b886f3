"""Order of time: the window within a capture, captures side by side, and the part of the time that is wanted."""

from __future__ import annotations

import heapq
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from frames import eth_ipv4_tcp, ethernet, pcap_bytes, write_pcap, write_pcapng
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrack.capture import merge, open_capture
from conntrack.capture.source import WINDOW_SEGMENTS
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.order import Window

T0 = 1_700_000_000_000_000_000
FRAME = eth_ipv4_tcp()
ARP = ethernet(b"", 0x0806)


def by_heap(times: list[int], size: int) -> list[int]:
    """Positions in the order in which a heap of fixed size lets them go."""
    heap: list[tuple[int, int]] = []
    out = []
    for at, ts_ns in enumerate(times):
        heapq.heappush(heap, (ts_ns, at))
        if len(heap) > size:
            out.append(heapq.heappop(heap)[1])
    return out + [heapq.heappop(heap)[1] for _ in range(len(heap))]


def by_window(times: list[int], size: int, capacity: int) -> list[int]:
    rows = np.zeros(capacity, SEGMENT_DTYPE)
    window = Window(rows, size)
    held = filled = 0
    out: list[int] = []
    for at, ts_ns in enumerate(times):
        rows["ts_ns"][filled], rows["frame"][filled] = ts_ns, at
        filled += 1
        if filled == capacity:
            window.arrange(held, filled)
            out += rows["frame"][: filled - size].tolist()
            window.keep(filled - size, filled)
            held = filled = size
    window.arrange(held, filled)
    return out + rows["frame"][:filled].tolist()


class TestTheWindow:
    @settings(deadline=None)
    @given(st.lists(st.integers(-20, 20), max_size=120), st.integers(1, 12), st.integers(0, 20))
    def test_is_a_heap_of_fixed_size_wherever_batches_are_cut(self, jitter: list[int], size: int, more: int) -> None:
        times = [5 * at + shift for at, shift in enumerate(jitter)]
        assert by_window(times, size, 2 * size + more) == by_heap(times, size)

    def test_times_that_are_equal_keep_their_order(self) -> None:
        assert by_window([3, 3, 1, 3, 1, 1], 4, 8) == [2, 4, 5, 0, 1, 3]

    def test_a_time_far_in_the_future_waits_and_holds_up_nobody(self) -> None:
        times = [0, 1, 10**18, 2, 3, 5, 4, 6, 7, 8, 9]
        assert by_window(times, 3, 6) == [0, 1, 3, 4, 6, 5, 7, 8, 9, 10, 2]

    def test_in_order_nothing_is_done(self) -> None:
        rows = np.zeros(10, SEGMENT_DTYPE)
        rows["ts_ns"] = np.arange(10)
        assert Window(rows, 4).arrange(4, 10) is False
        rows["ts_ns"][9] = 0
        assert Window(rows, 4).arrange(4, 10) is True
        assert rows["ts_ns"].tolist() == [0, 1, 2, 3, 4, 0, 5, 6, 7, 8]  # as far as the window reaches

    @pytest.mark.parametrize(("held", "filled"), [(5, 8), (3, 2), (0, 11)])
    def test_what_it_refuses(self, held: int, filled: int) -> None:
        window = Window(np.zeros(10, SEGMENT_DTYPE), 4)
        with pytest.raises(ValueError, match="segments held"):
            window.arrange(held, filled)
        with pytest.raises(ValueError, match="cannot be kept"):
            window.keep(2, 10)
        with pytest.raises(ValueError, match="a window of 11"):
            Window(np.zeros(10, SEGMENT_DTYPE), 11)
        with pytest.raises(TypeError):
            Window(np.zeros(10), 1)


def rows_of(*paths: Path, batch_segments: int = 8192, **part: int) -> tuple[list[tuple[int, int, int]], object]:
    """(time since T0 in ms, source port, frame) of every segment, and the account."""
    with open_capture(paths, batch_segments=batch_segments, **part) as capture:
        rows = [
            ((ts_ns - T0) // 10**6, port, frame)
            for batch in capture
            for ts_ns, port, frame in zip(
                batch["ts_ns"].tolist(), batch["src_port"].tolist(), batch["frame"].tolist(), strict=True
            )
        ]
    return rows, capture.info


def made(path: Path, times_ms: list[int], port: int) -> Path:
    return write_pcap(path, [(T0 + ms * 10**6, eth_ipv4_tcp(sport=port)) for ms in times_ms])


class TestWithinACapture:
    def test_out_of_order_is_put_right_and_counted(self, tmp_path: Path) -> None:
        path = made(tmp_path / "a.pcap", [0, 3, 1, 2, 5, 4], 1)
        rows, info = rows_of(path)
        assert rows == [(0, 1, 1), (1, 1, 3), (2, 1, 4), (3, 1, 2), (4, 1, 6), (5, 1, 5)]
        assert info.time_inversions == 2

    def test_the_order_is_the_same_for_any_batch_size(self, tmp_path: Path) -> None:
        chance = np.random.default_rng(1)
        times = (np.arange(5000) + chance.integers(0, 50, 5000) ** 2).tolist()
        times[1000] = 10**9
        path = made(tmp_path / "a.pcap", times, 1)
        expected = by_heap(times, WINDOW_SEGMENTS)
        for batch_segments in (1, 7, 1000, 8192):
            rows, _ = rows_of(path, batch_segments=batch_segments)
            assert [frame - 1 for *_, frame in rows] == expected


class TestSideBySide:
    def test_files_that_overlap_are_merged(self, tmp_path: Path) -> None:
        a = made(tmp_path / "a.pcap", [0, 10, 20, 30], 1)
        b = made(tmp_path / "b.pcap", [5, 15, 25, 100], 2)
        c = made(tmp_path / "c.pcap", [20, 25, 26], 3)
        rows, info = rows_of(c, b, a)
        assert [row[:2] for row in rows] == [
            (0, 1), (5, 2), (10, 1), (15, 2), (20, 1), (20, 3), (25, 2), (25, 3), (26, 3), (30, 1), (100, 2),
        ]  # fmt: skip
        assert [frame for *_, frame in rows] == list(range(1, 12))
        assert (info.packets, info.time_inversions) == (11, 0)

    def test_frames_without_tcp_count_as_in_one_file(self, tmp_path: Path) -> None:
        a = write_pcap(tmp_path / "a.pcap", [(T0, FRAME), (T0 + 3000, ARP), (T0 + 4000, FRAME), (T0 + 9000, ARP)])
        b = write_pcapng(tmp_path / "b.pcapng", [(T0 + 1000, FRAME), (T0 + 5000, ARP), (T0 + 6000, FRAME)])
        c = write_pcap(tmp_path / "c.pcap", [(T0 + 20_000, FRAME)])
        rows, info = rows_of(a, b, c)
        assert [frame for *_, frame in rows] == [1, 2, 4, 7, 8]  # a ends with frame 5
        assert info.packets == 8

    @pytest.mark.parametrize("seed", range(3))
    def test_merged_is_the_same_as_one_file_for_any_batch_size(self, tmp_path: Path, seed: int) -> None:
        chance = np.random.default_rng(seed)
        times = sorted(chance.integers(0, 3000, 4000).tolist())
        whose = chance.integers(0, 5, 4000).tolist()
        paths = [
            made(tmp_path / f"{n}.pcap", [t for t, w in zip(times, whose, strict=True) if w == n], n) for n in range(5)
        ]
        expected, _ = rows_of(made(tmp_path / "one.pcap", times, 0))
        for batch_segments in (3, 500, 8192):
            rows, info = rows_of(*paths, batch_segments=batch_segments)
            assert [(t, frame) for t, _, frame in rows] == [(t, frame) for t, _, frame in expected]
            assert info.packets == info.tcp_segments == 4000

    def test_disorder_and_overlap_give_one_answer(self, tmp_path: Path) -> None:
        chance = np.random.default_rng(5)
        paths = []
        for n in range(3):
            times = (np.arange(3000) * 3 + chance.integers(0, 400, 3000)).tolist()
            times[700] = 10**8
            paths.append(made(tmp_path / f"{n}.pcap", times, n))
        answers = [rows_of(*paths, batch_segments=most)[0] for most in (10, 900, 8192)]
        assert answers[0] == answers[1] == answers[2]
        assert len({frame for *_, frame in answers[0]}) == 9000
        assert [t for t, *_ in answers[0]] == sorted(t for t, *_ in answers[0])

    def test_only_what_overlaps_is_open(self, tmp_path: Path) -> None:
        paths = [made(tmp_path / f"{n}.pcap", [10 * n, 10 * n + 12], n) for n in range(50)]
        most = 0
        with open_capture(paths, batch_segments=1) as capture:
            for _ in capture:
                most = max(most, len(capture.sources))
        assert most <= 3
        assert capture.sources == []

    def test_more_than_can_be_open_are_read_and_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(merge, "MOST_OPEN", 3)
        paths = [made(tmp_path / f"{n}.pcap", [n, 100 + n], n) for n in range(6)]
        rows, info = rows_of(*paths)
        assert sorted(row[:2] for row in rows) == sorted((t, n) for n in range(6) for t in (n, 100 + n))
        assert len({frame for *_, frame in rows}) == 12
        assert info.notes == ["more than 3 captures overlap in time; the rest are read as others end"]

    def test_damage_ends_one_of_them_only(self, tmp_path: Path) -> None:
        a = made(tmp_path / "a.pcap", [0, 10, 20], 1)
        a.write_bytes(a.read_bytes()[:-1])
        rows, info = rows_of(a, made(tmp_path / "b.pcap", [5, 15, 25], 2))
        assert [t for t, *_ in rows] == [0, 5, 10, 15, 25]
        assert len(info.faults) == 1


class TestFromAndTo:
    def test_a_part_of_the_time(self, tmp_path: Path) -> None:
        path = made(tmp_path / "a.pcap", [0, 10, 20, 30, 40], 1)
        rows, info = rows_of(path, from_ns=T0 + 10 * 10**6, to_ns=T0 + 30 * 10**6)
        assert [t for t, *_ in rows] == [10, 20, 30]
        assert info.skipped == {"outside_time": 2}
        assert info.notes == []
        assert (info.first_ts_ns, info.last_ts_ns) == (T0 + 10**7, T0 + 3 * 10**7)

    def test_nothing_behind_it_is_read(self, tmp_path: Path) -> None:
        first = made(tmp_path / "a.pcap", list(range(200_000)), 1)
        second = made(tmp_path / "b.pcap", [10**9], 1)
        rows, info = rows_of(first, second, to_ns=T0 + 5 * 10**6)
        assert [t for t, *_ in rows] == list(range(6))
        assert info.bytes < first.stat().st_size / 2
        assert info.packets == info.tcp_segments + sum(info.skipped.values())

    def test_none_of_it(self, tmp_path: Path) -> None:
        rows, info = rows_of(made(tmp_path / "a.pcap", [0, 1], 1), from_ns=T0 + 10**12)
        assert rows == []
        assert (info.first_ts_ns, info.last_ts_ns) == (None, None)
        assert info.notes == ["no TCP segment lies in the time asked for; 'ctrack info' says when there are any"]


def test_a_writer_who_never_pauses_is_not_waited_for(tmp_path: Path) -> None:
    """A segment every 20 ms fills no batch for minutes, and never pauses for as long as a pause is."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = pcap_bytes([(T0 + n, FRAME) for n in range(1000)])
    stop = threading.Event()

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(content[:24])
            for at in range(24, len(content), 70):
                if stop.is_set():
                    return
                pipe.write(content[at : at + 70])
                time.sleep(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    with open_capture([path]) as capture:
        first = next(iter(capture))
        assert 1 <= len(first) < 500
        stop.set()
        assert sum(len(batch) for batch in capture) < 500
    writer.join()
