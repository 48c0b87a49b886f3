"""Classic pcap: every variant of the format gives the same segments, and damage is said where it is."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from frames import eth_ipv4_tcp, ethernet, ipv4, pcap_bytes, tcp, write_pcap

from conntrack.capture import CaptureInfo, open_capture
from conntrack.errors import InputError

T0 = 1_700_000_000_123_456_000
PACKETS = [(T0 + i * 1_000_000, eth_ipv4_tcp(sport=1000 + i, payload=b"x" * i)) for i in range(20)]


def read(path: Path, batch_segments: int = 8192) -> tuple[np.ndarray, CaptureInfo]:
    with open_capture([path], batch_segments=batch_segments) as capture:
        batches = [batch.copy() for batch in capture]
    info = capture.info
    assert all(1 <= len(batch) <= batch_segments for batch in batches)
    assert info.packets == info.tcp_segments + sum(info.skipped.values())
    assert info.tcp_segments == sum(len(batch) for batch in batches)
    return (np.concatenate(batches) if batches else np.zeros(0)), info


def read_bytes(tmp_path: Path, content: bytes, batch_segments: int = 8192) -> tuple[np.ndarray, CaptureInfo]:
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    return read(path, batch_segments)


def fault_of(tmp_path: Path, content: bytes) -> tuple[str, int]:
    """What is said of the damage, and how many packets came before."""
    _, info = read_bytes(tmp_path, content)
    (fault,) = info.faults
    assert str(fault).startswith(f"{tmp_path / 'a.pcap'}: ")
    return str(fault).removeprefix(f"{tmp_path / 'a.pcap'}: "), info.packets


class TestVariants:
    @pytest.mark.parametrize("big_endian", [False, True])
    @pytest.mark.parametrize(
        "variant",
        [
            {},
            {"nano": True},
            {"magic": 0xA1B2CD34},
            {"version": (2, 3)},
            {"version": (2, 2)},
            {"version": (2, 0)},
            {"version": (543, 0)},
            {"linktype": 1 | 0xABC << 16},
        ],
        ids=str,
    )
    def test_the_same_segments(self, tmp_path: Path, variant: dict[str, object], big_endian: bool) -> None:
        content = pcap_bytes(PACKETS, big_endian=big_endian, **variant)
        segments, info = read_bytes(tmp_path, content)
        assert segments["ts_ns"].tolist() == [ts for ts, _ in PACKETS]
        assert segments["frame"].tolist() == list(range(1, 21))
        assert segments["payload_bytes"].tolist() == list(range(20))
        assert segments["wire_bytes"].tolist() == [len(frame) for _, frame in PACKETS]
        assert (info.first_ts_ns, info.last_ts_ns) == (PACKETS[0][0], PACKETS[-1][0])
        assert (info.bytes, info.bytes_total, info.faults) == (len(content), len(content), [])

    def test_version_2_3_with_the_lengths_exchanged(self, tmp_path: Path) -> None:
        packets = [(T0, PACKETS[19][1][:60])]
        right = pcap_bytes(packets, version=(2, 3), wire_lengths=[73])
        record = struct.pack("<II", 60, 73)
        assert right.count(record) == 1
        for content in (right, right.replace(record, struct.pack("<II", 73, 60))):
            segments, info = read_bytes(tmp_path, content)
            assert (segments["wire_bytes"].tolist(), info.faults) == ([73], [])

    def test_nanoseconds_are_kept(self, tmp_path: Path) -> None:
        segments, _ = read_bytes(tmp_path, pcap_bytes([(T0 + 789, PACKETS[0][1])], nano=True))
        assert segments["ts_ns"].tolist() == [T0 + 789]

    def test_a_check_sequence_is_not_payload(self, tmp_path: Path) -> None:
        # Only a packet of IP length 0 can show it: its length is what is left on the wire.
        frame = ethernet(ipv4(tcp(payload=b"x" * 100), total_length=0)) + b"FCS!"
        with_fcs, _ = read_bytes(tmp_path, pcap_bytes([(T0, frame)], linktype=1 | 1 << 26 | 2 << 28))
        assert (with_fcs["payload_bytes"].tolist(), with_fcs["wire_bytes"].tolist()) == ([100], [len(frame)])
        unknown, _ = read_bytes(tmp_path, pcap_bytes([(T0, frame)], linktype=1 | 2 << 28))
        assert unknown["payload_bytes"].tolist() == [104]

    def test_the_longest_time(self, tmp_path: Path) -> None:
        content = pcap_bytes([(0, PACKETS[0][1])])
        content = content[:24] + b"\xff" * 8 + content[32:]
        segments, _ = read_bytes(tmp_path, content)
        assert segments["ts_ns"].tolist() == [(2**32 - 1) * 10**9 + (2**32 - 1) * 1000]


class TestReading:
    @pytest.mark.parametrize("batch_segments", [1, 2, 7, 20, 21])
    def test_any_batch_size_gives_the_same(self, tmp_path: Path, batch_segments: int) -> None:
        packets = [*PACKETS, (T0, ethernet(b"\x00" * 46, 0x0806)), (T0, ethernet(b"", 0x88CC))]
        whole, info = read_bytes(tmp_path, pcap_bytes(packets))
        parts, parts_info = read_bytes(tmp_path, pcap_bytes(packets), batch_segments)
        assert whole.tobytes() == parts.tobytes()
        assert info == parts_info
        assert info.skipped == {"arp": 1, "not_ip": 1}
        assert info.time_inversions == 1

    def test_more_than_one_buffer(self, tmp_path: Path) -> None:
        frame = eth_ipv4_tcp(payload=b"x" * 60_000)
        segments, info = read(write_pcap(tmp_path / "big.pcap", ((T0 + i, frame) for i in range(100))))
        assert segments["frame"].tolist() == list(range(1, 101))
        assert info.faults == []

    def test_a_record_longer_than_the_buffer(self, tmp_path: Path) -> None:
        frame = eth_ipv4_tcp() + b"\x00" * 3_000_000
        content = pcap_bytes([(T0, PACKETS[0][1]), (T0, frame), (T0, PACKETS[1][1])], snaplen=4_000_000)
        segments, info = read_bytes(tmp_path, content)
        assert segments["wire_bytes"].tolist() == [54, len(frame), 55]
        assert info.faults == []

    def test_no_packet_at_all(self, tmp_path: Path) -> None:
        segments, info = read_bytes(tmp_path, pcap_bytes([]))
        assert len(segments) == 0
        assert (info.packets, info.first_ts_ns, info.last_ts_ns, info.skipped) == (0, None, None, {})


class TestDamage:
    def test_cut_anywhere(self, tmp_path: Path) -> None:
        content = pcap_bytes(PACKETS[:3])
        ends = [24]
        for _, frame in PACKETS[:3]:
            ends.append(ends[-1] + 16 + len(frame))
        for size in range(25, len(content)):
            segments, info = read_bytes(tmp_path, content[:size])
            whole = max(i for i, end in enumerate(ends) if end <= size)
            assert (len(segments), info.packets) == (whole, whole)
            assert len(info.faults) == (size not in ends)

    def test_what_is_said(self, tmp_path: Path) -> None:
        content = pcap_bytes(PACKETS[:2])
        assert fault_of(tmp_path, content[:-5]) == (
            "cut short in packet 2 (50 of 55 bytes, offset 94); 1 packet used",
            1,
        )
        assert fault_of(tmp_path, content[:30]) == (
            "cut short in the header of packet 1 (6 of 16 bytes, offset 24); 0 packets used",
            0,
        )
        assert fault_of(tmp_path, content[:10]) == (
            "cut short in the file header (10 of 24 bytes, offset 0); 0 packets used",
            0,
        )

    @pytest.mark.parametrize("captured", [262_145, 2**31, 2**32 - 1])
    def test_an_impossible_length(self, tmp_path: Path, captured: int) -> None:
        content = pcap_bytes(PACKETS[:1]) + struct.pack("<IIII", 0, 0, captured, captured) + b"\x00" * 1000
        said, packets = fault_of(tmp_path, content)
        assert said == f"damaged at packet 2 (it claims {captured} bytes, offset 94); 1 packet used"
        assert packets == 1

    def test_a_snap_length_is_believed_up_to_a_limit(self, tmp_path: Path) -> None:
        content = pcap_bytes([], snaplen=2**32 - 1) + struct.pack("<IIII", 0, 0, 2**24 + 1, 0)
        said, _ = fault_of(tmp_path, content)
        assert "it claims 16777217 bytes" in said

    @pytest.mark.parametrize("version", [(1, 0), (2, 5), (3, 0), (543, 1)])
    def test_a_version_that_does_not_exist(self, tmp_path: Path, version: tuple[int, int]) -> None:
        with pytest.raises(InputError, match=rf"pcap of version {version[0]}\.{version[1]}, which does not exist"):
            read_bytes(tmp_path, pcap_bytes(PACKETS, version=version))
