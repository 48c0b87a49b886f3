"""IP packets in pieces: put together for headers and lengths, in any order, in bounded memory; nothing in silence."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from frames import ACK, eth_ipv4_tcp, ethernet, ipv4, ipv6, mss, tcp, timestamps, write_pcap
from layers import INNER4, ipv4_pieces, ipv6_pieces, udp, vxlan

from conntrack.capture import CaptureInfo, open_capture
from conntrack.capture.paths import MOST_FRAGMENTED
from conntrack.core.abi import SEGMENT_DTYPE

S = 10**9


def read(path: Path, *frames: tuple[int, bytes] | bytes, snaplen: int = 65535) -> tuple[np.ndarray, CaptureInfo]:
    timed = [frame if isinstance(frame, tuple) else (i, frame) for i, frame in enumerate(frames)]
    with open_capture([write_pcap(path / "pieces.pcap", timed, snaplen=snaplen, nano=True)]) as capture:
        parts = [batch.copy() for batch in capture]
    info = capture.info
    assert info.packets == info.tcp_segments + sum(info.skipped.values()) == len(timed)
    return np.concatenate([np.empty(0, SEGMENT_DTYPE), *parts]), info


DATA = tcp(1111, 2222, ACK, seq=5, payload=bytes(range(256)) * 4, options=timestamps(7, 8) + b"\x01\x01")


class TestWhole:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    @pytest.mark.parametrize("pieces", [ipv4_pieces, ipv6_pieces])
    def test_in_any_order(self, tmp_path: Path, pieces: object, order: tuple[int, ...]) -> None:
        frames = pieces(DATA, 8, 16, 400)
        segments, info = read(tmp_path, *(frames[i] for i in order))
        assert info.skipped == {"ip_fragment": 3}
        assert segments["frame"].tolist() == [4]  # where the last missing piece is
        (segment,) = segments
        assert (segment["src_port"], segment["seq"], segment["payload_bytes"]) == (1111, 5, 1024)
        assert (segment["tsval"], segment["tsecr"]) == (7, 8)
        assert info.incomplete == 0

    @pytest.mark.parametrize("size", range(8, 64, 8))
    def test_a_header_in_tiny_pieces(self, tmp_path: Path, size: int) -> None:
        whole = tcp(1111, 2222, options=mss(1460) + b"\x01" * 36, payload=b"x" * 11)
        sizes = [size] * ((len(whole) - 1) // size)
        segments, _ = read(tmp_path, *ipv4_pieces(whole, *sizes))
        assert segments["payload_bytes"].tolist() == [11]
        assert segments["frame"].tolist() == [len(sizes) + 1]

    def test_the_length_is_that_of_all_pieces_though_the_snap_length_cut_them(self, tmp_path: Path) -> None:
        segments, _ = read(tmp_path, *ipv4_pieces(DATA, 512), snaplen=96)
        assert segments["payload_bytes"].tolist() == [1024]

    def test_a_snap_length_within_the_header(self, tmp_path: Path) -> None:
        _, info = read(tmp_path, *ipv4_pieces(DATA, 512), snaplen=45)
        assert info.skipped == {"ip_fragment": 1, "cut_short_header": 1}

    def test_a_piece_seen_twice_changes_nothing(self, tmp_path: Path) -> None:
        first, second, third = ipv4_pieces(DATA, 64, 64)
        segments, info = read(tmp_path, first, first, second, second, third)
        assert segments["payload_bytes"].tolist() == [1024]
        assert info.skipped == {"ip_fragment": 4}

    def test_packets_at_the_same_time_are_told_apart(self, tmp_path: Path) -> None:
        one = ipv4_pieces(DATA, 24, ip_id=1)
        two = ipv4_pieces(DATA[:-8], 24, ip_id=2)
        three = ipv4_pieces(DATA[:-16], 24, ip_id=1, src="10.0.0.9")
        four = [eth[:12] + b"\x81\x00\x00\x05" + eth[12:] for eth in ipv4_pieces(DATA[:-24], 24, ip_id=1)]
        frames = [parts[i] for i in (0, 1) for parts in (one, two, three, four)]
        segments, _ = read(tmp_path, *frames)
        assert segments["payload_bytes"].tolist() == [1024, 1016, 1008, 1000]
        assert segments["tag"].tolist() == [0, 0, 0, 5]

    def test_a_tunnel_in_pieces(self, tmp_path: Path) -> None:
        outer = udp(vxlan(ethernet(INNER4)), 4789)
        for size in (8, 40, 64):
            segments, info = read(tmp_path, *ipv4_pieces(outer, size, protocol=17))
            assert segments["src_port"].tolist() == [1111]
            assert info.paths[int(segments["path"][0])] == "eth/ipv4 10.0.0.1>10.0.0.2/udp/vxlan 42"

    def test_pieces_in_pieces(self, tmp_path: Path) -> None:
        inner = [frame[14:] for frame in ipv4_pieces(tcp(1111, 2222, payload=b"x" * 100), 32, ip_id=5)]
        frames = [frame for i, part in enumerate(inner) for frame in ipv4_pieces(part, 24, ip_id=9 + i, protocol=4)]
        segments, info = read(tmp_path, *frames)
        assert (segments["payload_bytes"].tolist(), segments["frame"].tolist()) == ([100], [4])
        assert info.skipped == {"ip_fragment": 3}

    def test_behind_an_authentication_header(self, tmp_path: Path) -> None:
        body = b"\x06\x04" + bytes(22) + tcp(1111, 2222, payload=b"x" * 50)
        segments, _ = read(tmp_path, *ipv4_pieces(body, 40, protocol=51))
        assert segments["payload_bytes"].tolist() == [50]

    def test_extension_headers_behind_the_fragment_header(self, tmp_path: Path) -> None:
        body = b"\x06\x00" + bytes(6) + tcp(1111, 2222, payload=b"x" * 50)
        segments, _ = read(tmp_path, *ipv6_pieces(body, 16, protocol=60))
        assert segments["payload_bytes"].tolist() == [50]


class TestNotWhole:
    def test_a_missing_piece_is_told(self, tmp_path: Path) -> None:
        first, _, third = ipv4_pieces(DATA, 64, 64)
        segments, info = read(tmp_path, first, third, eth_ipv4_tcp())
        assert len(segments) == 1
        assert (info.skipped, info.incomplete) == ({"ip_fragment": 2}, 1)

    @pytest.mark.parametrize(("pieces", "limit"), [(ipv4_pieces, 30), (ipv6_pieces, 60)])
    def test_time_limits(self, tmp_path: Path, pieces: object, limit: int) -> None:
        first, second = pieces(DATA, 64)
        segments, info = read(tmp_path, (0, first), (limit * S, second))
        assert (len(segments), info.incomplete) == (1, 0)
        segments, info = read(tmp_path, (0, first), (limit * S + 1, second))
        assert (len(segments), info.incomplete) == (0, 2)

    def test_the_table_has_a_limit_and_the_oldest_leave(self, tmp_path: Path) -> None:
        first, second = ipv4_pieces(DATA, 64, ip_id=7)
        others = [
            ipv4_pieces(DATA, 64, ip_id=i % 65536, src=f"10.1.{i >> 8 & 255}.{i & 255}")[0]
            for i in range(4 * MOST_FRAGMENTED)
        ]
        segments, info = read(tmp_path, first, *others, second)
        assert len(segments) == 0
        assert info.incomplete == len(others) + 2
        segments, info = read(tmp_path, *others, first, second)
        assert len(segments) == 1  # the newest are those that stay
        assert info.incomplete == len(others)

    @pytest.mark.parametrize(
        "frames",
        [
            [ethernet(ipv4(bytes(24), fragment=0x2000)), ethernet(ipv4(bytes(24), fragment=0x2002))],
            [ethernet(ipv4(bytes(24), fragment=0x0003)), ethernet(ipv4(bytes(24), fragment=0x2006))],
            [ethernet(ipv4(bytes(24), fragment=0x0003)), ethernet(ipv4(bytes(24), fragment=0x0006))],
            [ethernet(ipv4(bytes(24), fragment=0x2006)), ethernet(ipv4(bytes(24), fragment=0x0003))],
            [ethernet(ipv4(bytes(24), fragment=0x2000)), ethernet(ipv4(bytes(23), fragment=0x2003))],
            [ethernet(ipv4(bytes(24), fragment=0x2000)), ethernet(ipv4(bytes(48), fragment=0x1FFF))],
            [ethernet(ipv4(bytes(24), fragment=0x2000)), ethernet(ipv4(b"", fragment=0x0003))],
        ],
        ids=["overlap", "beyond the end", "another end", "an end before", "7 bytes", "beyond 64 KiB", "empty"],
    )
    def test_contradictions(self, tmp_path: Path, frames: list[bytes]) -> None:
        _, info = read(tmp_path, *frames)
        assert info.skipped == {"ip_fragment": 1, "bad_fragment": 1}

    def test_protocols_that_carry_no_tcp_do_not_wait(self, tmp_path: Path) -> None:
        frames = ipv4_pieces(bytes(100), 64, protocol=1)
        _, info = read(tmp_path, *frames)
        assert (info.skipped, info.incomplete) == ({"icmp": 1, "ip_fragment": 1}, 0)

    def test_dont_fragment_is_no_fragment(self, tmp_path: Path) -> None:
        segments, _ = read(tmp_path, ethernet(ipv4(tcp(), fragment=0x4000)))
        assert len(segments) == 1

    def test_an_atomic_fragment_is_whole(self, tmp_path: Path) -> None:
        frame = ethernet(ipv6(tcp(), extensions=[(44, struct.pack(">BHI", 0, 0, 1))]), 0x86DD)
        segments, _ = read(tmp_path, frame)
        assert len(segments) == 1


def test_any_cut_into_pieces_gives_the_same(tmp_path: Path) -> None:
    """Random pieces of random segments, mixed and shuffled: each is found once, with its own length."""
    chance = np.random.default_rng(3)
    frames, expected = [], {}
    for ip_id in range(60):
        payload = bytes(int(chance.integers(0, 900)))
        whole = tcp(1000 + ip_id, 2222, payload=payload, options=b"\x01" * int(chance.integers(0, 40)))
        sizes, left = [], len(whole)
        while left > 8 and chance.random() < 0.8:
            size = min(int(chance.integers(1, 30)) * 8, (left - 1) // 8 * 8)
            sizes.append(size)
            left -= size
        frames += ipv4_pieces(whole, *sizes, ip_id=ip_id)
        expected[1000 + ip_id] = len(payload)
    order = chance.permutation(len(frames))
    segments, info = read(tmp_path, *(frames[i] for i in order))
    assert dict(zip(segments["src_port"].tolist(), segments["payload_bytes"].tolist(), strict=True)) == expected
    assert info.incomplete == 0
