"""pcapng: sections, interfaces, kinds of blocks and resolutions of time, in both byte orders; damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from frames import (
    block,
    eth_ipv4_tcp,
    ethernet,
    interface,
    ipv4,
    ipv6,
    old_packet,
    option,
    packet,
    section,
    simple_packet,
    tcp,
    write_pcapng,
)

from conntrack.capture import CaptureInfo, open_capture
from conntrack.core.blocks import time_scale
from conntrack.core.walk import LAST_TIME_NS

T0 = 1_700_000_000_123_456_789
FRAME = eth_ipv4_tcp(payload=b"abc")


def read(tmp_path: Path, *blocks: bytes, batch_segments: int = 8192) -> tuple[np.ndarray, CaptureInfo]:
    path = tmp_path / "a.pcapng"
    path.write_bytes(b"".join(blocks))
    with open_capture([path], batch_segments=batch_segments) as capture:
        batches = [batch.copy() for batch in capture]
    info = capture.info
    assert info.packets == info.tcp_segments + sum(info.skipped.values())
    assert info.tcp_segments == sum(len(batch) for batch in batches)
    rows = np.concatenate(batches) if batches else np.zeros(0, [("ts_ns", "i8"), ("frame", "u8")])
    return rows[rows["frame"].argsort()], info  # as in the file; the order of time is tested in test_order.py


def times(tmp_path: Path, ticks: int, **describe: int) -> int:
    segments, info = read(tmp_path, section(), interface(**describe), packet(FRAME, ticks))
    assert info.first_ts_ns == info.last_ts_ns == segments["ts_ns"][0]
    return int(segments["ts_ns"][0])


class TestBlocks:
    @pytest.mark.parametrize("big_endian", [False, True])
    def test_all_kinds(self, tmp_path: Path, big_endian: bool) -> None:
        order = {"big_endian": big_endian}
        segments, info = read(
            tmp_path,
            section(**order),
            interface(tsresol=9, **order),
            block(4, b"\x01\x02\x03\x04", **order),
            packet(FRAME, T0, options=option(1, b"a remark", **order) + option(0, b"", **order), **order),
            block(5, b"\x00" * 12, **order),
            old_packet(FRAME, T0 + 1, **order),
            block(10, b"keys", **order),
            simple_packet(FRAME, **order),
            block(0x0BAD, b"whatever", **order),
            block(0x40000BAD, b"", **order),
            block(0x80001234, b"\xff" * 100, **order),
            packet(FRAME, T0 - 1, wire=1500, **order),
        )
        assert segments["ts_ns"].tolist() == [T0, T0 + 1, T0 + 1, T0 - 1]
        assert segments["frame"].tolist() == [1, 2, 3, 4]
        assert segments["wire_bytes"].tolist() == [57, 57, 57, 1500]
        assert (info.first_ts_ns, info.last_ts_ns, info.time_inversions) == (T0 - 1, T0 + 1, 1)
        assert info.faults == []

    def test_a_packet_without_any_time_gets_0_and_does_not_count_as_one(self, tmp_path: Path) -> None:
        segments, info = read(tmp_path, section(), interface(), simple_packet(FRAME))
        assert segments["ts_ns"].tolist() == [0]
        assert (info.first_ts_ns, info.last_ts_ns) == (None, None)

    def test_a_simple_packet_is_cut_by_the_snap_length_of_interface_0(self, tmp_path: Path) -> None:
        whole = eth_ipv4_tcp(payload=b"x" * 1000)
        segments, _ = read(tmp_path, section(), interface(snaplen=60), simple_packet(whole[:60], wire=len(whole)))
        assert (segments["payload_bytes"].tolist(), segments["wire_bytes"].tolist()) == ([1000], [1054])

    def test_written_by_the_helper(self, tmp_path: Path) -> None:
        path = write_pcapng(tmp_path / "b.pcapng", [(T0 + i, FRAME) for i in range(5)], big_endian=True)
        with open_capture([path], batch_segments=2) as capture:
            assert [batch["ts_ns"].tolist() for batch in capture] == [[T0, T0 + 1], [T0 + 2, T0 + 3], [T0 + 4]]


class TestSectionsAndInterfaces:
    def test_link_types_of_several_interfaces(self, tmp_path: Path) -> None:
        ip4, ip6 = ipv4(tcp()), ipv6(tcp())
        segments, info = read(
            tmp_path,
            section(),
            interface(1),
            interface(101),
            packet(FRAME, 1),
            interface(0),
            packet(ip6, 2, number=1),
            packet(struct.pack("<I", 2) + ip4, 3, number=2),
            old_packet(ip4, 4, number=1),
            interface(147),
            packet(b"\x00" * 40, 5, number=3),
        )
        assert segments["ip_version"].tolist() == [4, 6, 4, 4]
        assert segments["ts_ns"].tolist() == [1000, 2000, 3000, 4000]
        assert info.skipped == {"unsupported_link_type": 1}

    def test_a_section_forgets_the_interfaces_and_may_change_the_byte_order(self, tmp_path: Path) -> None:
        segments, info = read(
            tmp_path,
            section(),
            interface(tsresol=9),
            packet(FRAME, T0),
            section(big_endian=True),
            packet(FRAME, T0, big_endian=True),
            interface(101, tsresol=9, big_endian=True),
            packet(ipv4(tcp()), T0 + 5, big_endian=True),
            section(),
            section(),
            interface(tsresol=9),
            packet(FRAME, T0 + 9),
        )
        assert segments["ts_ns"].tolist() == [T0, T0 + 5, T0 + 9]
        assert segments["frame"].tolist() == [1, 3, 4]
        assert info.skipped == {"unknown_interface": 1}

    def test_a_packet_of_no_interface_is_counted(self, tmp_path: Path) -> None:
        unknown = [packet(FRAME, 1), packet(FRAME, 1, number=2**32 - 1), old_packet(FRAME, 1), simple_packet(FRAME)]
        _, info = read(tmp_path, section(), *unknown)
        assert (info.skipped, info.faults) == ({"unknown_interface": 4}, [])

    def test_interfaces_past_the_first_few(self, tmp_path: Path) -> None:
        described = [interface(tsresol=n % 10) for n in range(100)]
        segments, _ = read(tmp_path, section(), *described, *(packet(FRAME, 5, number=n) for n in range(100)))
        assert segments["ts_ns"].tolist() == [5 * 10 ** (9 - n % 10) for n in range(100)]

    def test_too_many_interfaces_are_damage(self, tmp_path: Path) -> None:
        _, info = read(tmp_path, section(), interface() * 65_537)
        (fault,) = info.faults
        assert "(a section with more than 65536 interfaces, offset 1310748); 0 packets used" in str(fault)

    def test_the_check_sequence_is_not_payload(self, tmp_path: Path) -> None:
        frame = ethernet(ipv4(tcp(payload=b"x" * 100), total_length=0)) + b"FCS!"
        for length in (4, 32):  # bytes as some write it, bits as Wireshark reads it
            segments, _ = read(tmp_path, section(), interface(fcslen=length), packet(frame, 1))
            assert segments["payload_bytes"].tolist() == [100]


class TestTime:
    def test_powers_of_ten(self, tmp_path: Path) -> None:
        assert times(tmp_path, 1_700_000_000_123_456) == 1_700_000_000_123_456_000  # microseconds when not said
        assert times(tmp_path, 1_700_000_000, tsresol=0) == 1_700_000_000 * 10**9
        assert times(tmp_path, 17_000_000_001, tsresol=1) == 1_700_000_000_100_000_000
        assert times(tmp_path, T0, tsresol=9) == T0
        assert times(tmp_path, T0 * 10 + 9, tsresol=10) == T0
        assert times(tmp_path, 17 * 10**18, tsresol=12) == 17 * 10**15
        assert times(tmp_path, 2**64 - 1, tsresol=28) == 1
        assert times(tmp_path, 2**64 - 1, tsresol=127) <= 1

    def test_powers_of_two(self, tmp_path: Path) -> None:
        assert times(tmp_path, 1_700_000_000, tsresol=0x80) == 1_700_000_000 * 10**9
        assert times(tmp_path, 1_700_000_000 << 20 | 1 << 19, tsresol=0x80 | 20) == 1_700_000_000_500_000_000
        assert times(tmp_path, 1_700_000_000 << 32 | 1 << 30, tsresol=0x80 | 32) == 1_700_000_000_250_000_000
        assert times(tmp_path, 3 << 61, tsresol=0x80 | 62) == 1_500_000_000
        assert times(tmp_path, 1 << 63, tsresol=0x80 | 64) == 500_000_000
        assert times(tmp_path, 2**64 - 1, tsresol=0x80 | 127) == 0

    def test_against_whole_numbers(self, tmp_path: Path) -> None:
        ticks = 0x0123_4567_89AB_CDEF
        for n in range(20, 64):
            exact = ticks * 10**9 >> n
            assert 0 <= min(exact, LAST_TIME_NS) - times(tmp_path, ticks, tsresol=0x80 | n) <= 1, n

    def test_an_offset(self, tmp_path: Path) -> None:
        assert times(tmp_path, 5, tsresol=9, tsoffset=1_700_000_000) == 1_700_000_000_000_000_005
        assert times(tmp_path, 5, tsresol=9, tsoffset=-1) == -999_999_995

    @pytest.mark.parametrize("resolution", [0, 6, 9, 18, 19, 20, 0x7F, 0x80, 0x80 | 30, 0x80 | 64, 0xFF])
    @pytest.mark.parametrize("offset", [-(2**63), 0, 2**63 - 1])
    def test_the_most_there_is_stays_in_range(self, tmp_path: Path, resolution: int, offset: int) -> None:
        assert -LAST_TIME_NS <= times(tmp_path, 2**64 - 1, tsresol=resolution, tsoffset=offset) <= LAST_TIME_NS

    def test_scales_fit_the_record(self) -> None:
        assert all(0 <= value < 2**64 for resolution in range(256) for value in time_scale(resolution))


class TestDamage:
    BLOCKS = (section(), interface(), packet(FRAME, 1), packet(FRAME, 2))

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        content = b"".join(self.BLOCKS)
        ends = np.cumsum([len(part) for part in self.BLOCKS]).tolist()
        for size in range(4, len(content)):
            segments, info = read(tmp_path, content[:size])
            whole = sum(end <= size for end in ends[2:])
            assert (len(segments), info.packets) == (whole, whole)
            assert len(info.faults) == (size not in ends), size

    def test_what_is_said(self, tmp_path: Path) -> None:
        _, info = read(tmp_path, *self.BLOCKS[:3], self.BLOCKS[3][:-7])
        assert str(info.faults[0]) == (
            f"{tmp_path}/a.pcapng: cut short in the block after packet 1 (85 of 92 bytes, offset 140); 1 packet used"
        )
        assert (info.faults[0].path, info.faults[0].offset) == (f"{tmp_path}/a.pcapng", 140)

    @pytest.mark.parametrize(
        ("bad", "what"),
        [
            (struct.pack("<III", 6, 8, 8), "a block that claims 8 bytes"),
            (struct.pack("<III", 99, 13, 13) + b"\x00" * 8, "a block that claims 13 bytes"),
            (struct.pack("<III", 99, 1 << 25, 0), "a block that claims 33554432 bytes"),
            (struct.pack("<III", 99, 2**32 - 4, 0), "a block that claims 4294967292 bytes"),
            (struct.pack("<IIII", 99, 16, 0, 12), "a block whose two lengths differ"),
            (block(6, b"\x00" * 16), "a block that claims 28 bytes"),
            (block(3, b""), "a block that claims 12 bytes"),
            (block(1, b"\x00" * 4), "a block that claims 16 bytes"),
            (
                block(6, struct.pack("<IIIII", 0, 0, 0, 9, 9) + b"\x00" * 8),
                "a packet of 9 bytes that does not fit into its block",
            ),
            (
                block(2, struct.pack("<IIIII", 0, 0, 0, 2**32 - 1, 9)),
                "a packet of 4294967295 bytes that does not fit into its block",
            ),
            (b"\x0a\x0d\x0d\x0a" + b"\x00" * 24, "a section without the byte-order magic"),
            (section(version=(2, 0)), "a section of version 2, which does not exist"),
            (section()[:-4] + b"\x00\x00\x00\x00", "a block whose two lengths differ"),
            (struct.pack("<IIIHHq", 0x0A0D0D0A, 24, 0x1A2B3C4D, 1, 0, 0) + b"\x00" * 4, "a block that claims 24 bytes"),
        ],
    )
    def test_an_impossible_block(self, tmp_path: Path, bad: bytes, what: str) -> None:
        segments, info = read(tmp_path, section(), interface(), packet(FRAME, 1), bad, packet(FRAME, 2))
        assert len(segments) == 1
        offset = len(section()) + len(interface()) + len(packet(FRAME, 1))
        assert str(info.faults[0]).endswith(f": damaged after packet 1 ({what}, offset {offset}); 1 packet used")

    def test_options_that_lead_nowhere(self, tmp_path: Path) -> None:
        describe = struct.pack("<HHI", 1, 0, 0)
        for options in (
            b"\x09\x00\xff\xff",  # longer than the block
            b"\x09\x00\x00\x00",  # without a value
            b"\x0e\x00\x04\x00\x01\x02\x03\x04",  # an offset of 4 bytes
        ):
            segments, info = read(tmp_path, section(), block(1, describe + options), packet(FRAME, 7))
            assert (segments["ts_ns"].tolist(), info.faults) == ([7000], [])
