"""Chunks of a capture: exactly the frames and segments of one reading from the start, whatever the packets hold."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from frames import (
    eth_ipv4_tcp,
    ethernet,
    interface,
    ipv4,
    old_packet,
    packet,
    pcap_bytes,
    section,
    simple_packet,
    tcp,
    write_pcap,
    write_pcapng,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stitched import Stitched, stitch

from conntrack.capture.batch import Batch
from conntrack.capture.chunks import look
from conntrack.capture.filter import Filter
from conntrack.capture.source import open_reader
from conntrack.capture.stream import Stream
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.errors import CaptureError

T0 = 1_700_000_000_000_000_000
BYTES = f"V{SEGMENT_DTYPE.itemsize}"


def from_the_start(path: Path, expression: str | None = None) -> tuple[np.ndarray, Batch, list[str]]:
    """Segments in the order of the file, the tallies, and the faults."""
    batch = Batch(1000, Filter(expression) if expression else None)
    parts, faults = [], []
    with Stream(str(path)) as stream:
        try:
            reader = open_reader(stream, batch)
            while True:
                if reader.walk(batch):
                    parts.append(batch.segments[: batch.rows].copy())
                    batch.rows = 0
                elif not stream.more(reader.needed):
                    reader.finish(batch)
                    break
        except CaptureError as fault:
            faults.append(str(fault))
    parts.append(batch.segments[: batch.rows].copy())
    return np.concatenate(parts), batch, faults


def hold(path: Path, chunk_bytes: int, expression: str | None = None) -> Stitched:
    """Read in chunks and compare with one reading; return what was stitched."""
    rows, batch, faults = from_the_start(path, expression)
    stitched = stitch(str(path), chunk_bytes, expression)
    assert len(stitched.rows) == len(rows)
    assert not len(rows) or (stitched.rows.view(BYTES) == rows.view(BYTES)).all()
    assert stitched.counts.tolist() == batch.counts.tolist()
    assert stitched.place.frames == batch.frames
    assert stitched.inversions == batch.inversions
    assert stitched.faults == faults
    waiting = stitched.place.waiting
    assert stitched.lost + (len(waiting[0]) if waiting else 0) == batch.paths.incomplete
    return stitched


def plain(n: int, size: int = 40) -> list[tuple[int, bytes]]:
    payloads = [bytes((i + k) % 251 for k in range(size)) for i in range(251)]
    return [(T0 + i * 1_000_000, eth_ipv4_tcp(sport=1024 + i, seq=i, payload=payloads[i % 251])) for i in range(n)]


class TestPlain:
    @pytest.mark.parametrize("chunk_bytes", [100, 997, 10_000, 1 << 20])
    @pytest.mark.parametrize("write", [write_pcap, write_pcapng], ids=["pcap", "pcapng"])
    @pytest.mark.parametrize("big_endian", [False, True])
    def test_the_same_segments(self, tmp_path: Path, write: object, big_endian: bool, chunk_bytes: int) -> None:
        stitched = hold(write(tmp_path / "a", plain(500), big_endian=big_endian), chunk_bytes)
        assert stitched.again == 0

    @pytest.mark.parametrize("variant", [{"nano": True}, {"magic": 0xA1B2CD34}, {"version": (2, 2)}], ids=str)
    def test_dialects(self, tmp_path: Path, variant: dict[str, object]) -> None:
        path = tmp_path / "a.pcap"
        path.write_bytes(pcap_bytes(plain(300), **variant))
        assert hold(path, 2000).again == 0

    def test_a_filter(self, tmp_path: Path) -> None:
        hold(write_pcap(tmp_path / "a", plain(300)), 3000, "tcp src port 1100 or tcp src port 1200")
        hold(write_pcapng(tmp_path / "b", plain(300)), 3000, "tcp src port 1100 or tcp src port 1200")

    def test_no_packet_at_all(self, tmp_path: Path) -> None:
        hold(write_pcap(tmp_path / "a", []), 100)

    def test_packets_longer_than_chunks(self, tmp_path: Path) -> None:
        stitched = hold(write_pcap(tmp_path / "a", plain(20, 5000)), 700)
        assert stitched.chunks <= 20

    def test_what_is_compressed_has_no_chunks(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gz"
        path.write_bytes(b"\x1f\x8b\x08\x00")
        assert look(str(path)) is None


class TestHostile:
    """Bytes that look like records where none begins."""

    def inner(self, n: int, at_ns: int = T0) -> bytes:
        return pcap_bytes(
            [(at_ns + i * 1000, eth_ipv4_tcp(sport=5000 + i % 60000, payload=b"inner")) for i in range(n)]
        )

    @pytest.mark.parametrize("size", [1400, 60_000])
    @pytest.mark.parametrize("chunk_bytes", [3000, 50_000, 200_001])
    def test_a_capture_of_a_capture_being_downloaded(self, tmp_path: Path, size: int, chunk_bytes: int) -> None:
        inner = self.inner(8000)
        packets = [
            (T0 + i * 1_000_000, eth_ipv4_tcp(sport=80, seq=at, payload=inner[at : at + size]))
            for i, at in enumerate(range(0, len(inner), size))
        ]
        hold(write_pcap(tmp_path / "a", packets, snaplen=262144), chunk_bytes)

    def test_headers_forged_to_lead_to_the_end(self, tmp_path: Path) -> None:
        """A chain of forged records through all packets, that never meets a true one: the guess is wrong, the result
        is not."""
        # Each forged record is as long as a true one, and so begins in every packet at the same place.
        frames = []
        for i in range(400):
            frame = bytearray(eth_ipv4_tcp(sport=2000 + i, payload=bytes(200)))
            size = len(frame) if i < 399 else len(frame) - 116  # the last leads to the end of the file
            frame[100:116] = struct.pack("<IIII", T0 // 10**9, 5, size, size)
            frames.append((T0 + i * 1_000_000, bytes(frame)))
        stitched = hold(write_pcap(tmp_path / "a", frames), 5000)
        assert stitched.again > 0

    def test_forged_blocks(self, tmp_path: Path) -> None:
        inner = b"".join([section(), interface(), *(packet(eth_ipv4_tcp(sport=9), i) for i in range(300))])
        inner = inner[: len(inner) // 4 * 4]
        blocks = [section(), interface(tsresol=9)]
        # The true packets follow the forged ones at once, and the forged ones are 4-aligned as they must be.
        blocks += [packet(ethernet(ipv4(tcp(payload=b"\0\0" + inner))), T0 + i) for i in range(20)]
        path = tmp_path / "a"
        path.write_bytes(b"".join(blocks))
        hold(path, 10_000)

    def test_zeros(self, tmp_path: Path) -> None:
        hold(write_pcap(tmp_path / "a", [(T0 + i, eth_ipv4_tcp(payload=bytes(1400))) for i in range(300)]), 5000)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_anything(self, tmp_path: Path, data: st.DataObject) -> None:
        header = st.builds(
            lambda seconds, rest, size, more: struct.pack("<IIII", T0 // 10**9 + seconds, rest, size, size + more),
            st.integers(-5, 5), st.integers(0, 999_999), st.integers(0, 300), st.integers(0, 5),
        )  # fmt: skip
        forged = st.lists(st.one_of(header, st.binary(max_size=40)), max_size=12).map(b"".join)
        payloads = data.draw(st.lists(forged, min_size=1, max_size=40))
        times = data.draw(st.lists(st.integers(0, 10**9), min_size=len(payloads), max_size=len(payloads)))
        packets = [
            (T0 + ts * 1000, eth_ipv4_tcp(sport=1000 + i, payload=payload))
            for i, (ts, payload) in enumerate(zip(times, payloads, strict=True))
        ]
        chunk_bytes = data.draw(st.integers(16, 3000))
        write = data.draw(st.sampled_from([write_pcap, write_pcapng]))
        path = write(tmp_path / "a", packets)
        cut = data.draw(st.integers(0, 60))
        if cut and path.stat().st_size > 100 + cut:
            path.write_bytes(path.read_bytes()[:-cut])
        hold(path, chunk_bytes)


class TestCarriedOver:
    """What one chunk has to know of those before it."""

    def test_fragments(self, tmp_path: Path) -> None:
        packets = []
        for i in range(200):
            segment = tcp(sport=3000 + i, payload=bytes(100))
            packets.append((T0 + i * 1000, ethernet(ipv4(segment[:64], ip_id=i, fragment=0x2000))))
            packets.append((T0 + i * 1000, eth_ipv4_tcp(sport=77, seq=i)))
            if i % 7:
                packets.append((T0 + i * 1000 + 5, ethernet(ipv4(segment[64:], ip_id=i, fragment=8))))
        stitched = hold(write_pcap(tmp_path / "a", packets), 1500)
        assert stitched.again > 0

    def test_interfaces_in_the_middle(self, tmp_path: Path) -> None:
        blocks = [section(), interface(tsresol=9)]
        for i in range(300):
            if i == 100:
                blocks.append(interface(101, tsresol=6))
            if i == 200:
                blocks += [section(big_endian=True), interface(tsresol=3, big_endian=True)]
            if i >= 200:
                blocks.append(packet(eth_ipv4_tcp(sport=i), T0 // 10**6 + i, big_endian=True))
            elif i > 100 and i % 2:
                blocks.append(packet(ipv4(tcp(sport=i)), (T0 + i) // 1000, number=1))
            else:
                blocks.append(packet(eth_ipv4_tcp(sport=i), T0 + i))
        path = tmp_path / "a"
        path.write_bytes(b"".join(blocks))
        stitched = hold(path, 1000)
        assert 0 < stitched.again < stitched.chunks

    def test_packets_without_a_time(self, tmp_path: Path) -> None:
        blocks = [section(), interface(tsresol=9)]
        for i in range(300):
            blocks.append(simple_packet(eth_ipv4_tcp(sport=i)) if i % 3 else packet(eth_ipv4_tcp(sport=i), T0 + i))
        path = tmp_path / "a"
        path.write_bytes(b"".join(blocks))
        hold(path, 500)

    def test_packets_of_no_interface(self, tmp_path: Path) -> None:
        blocks = [section(), interface(tsresol=9)]
        blocks += [old_packet(eth_ipv4_tcp(sport=i), T0 + i, number=i % 3) for i in range(300)]
        path = tmp_path / "a"
        path.write_bytes(b"".join(blocks))
        hold(path, 700)

    def test_times_that_go_back(self, tmp_path: Path) -> None:
        packets = [(T0 + (i * 7919 % 1000) * 1000, eth_ipv4_tcp(sport=1000 + i)) for i in range(400)]
        assert hold(write_pcap(tmp_path / "a", packets), 71).inversions > 100

    def test_paths_are_numbered_as_in_one_reading(self, tmp_path: Path) -> None:
        packets = [(T0 + i * 1000, eth_ipv4_tcp(sport=i, vlans=[(0x8100, i * 31 % 17)])) for i in range(1, 300)]
        stitched = hold(write_pcap(tmp_path / "a", packets), 900)
        assert stitched.again == 0 and len(np.unique(stitched.rows["path"])) == 17


class TestDamage:
    @pytest.mark.parametrize("cut", [1, 30, 60])
    @pytest.mark.parametrize("write", [write_pcap, write_pcapng], ids=["pcap", "pcapng"])
    def test_cut_short(self, tmp_path: Path, write: object, cut: int) -> None:
        path = write(tmp_path / "a", plain(300))
        path.write_bytes(path.read_bytes()[:-cut])
        (fault,) = hold(path, 3000).faults
        assert "cut short" in fault and "299 packets used" in fault

    @pytest.mark.parametrize("write", [write_pcap, write_pcapng], ids=["pcap", "pcapng"])
    def test_an_impossible_length_in_the_middle(self, tmp_path: Path, write: object) -> None:
        path = write(tmp_path / "a", plain(300))
        content = bytearray(path.read_bytes())
        at = 24 + (16 + 94) * 150 + 8 if write is write_pcap else 28 + 32 + (32 + 96) * 150 + 4
        content[at : at + 4] = b"\xff\xff\xff\x7f"
        path.write_bytes(content)
        (fault,) = hold(path, 2000).faults
        assert "150 packets used" in fault


def test_every_shared_capture(shared: Path) -> None:
    held = 0
    for path in sorted((shared / "captures").rglob("*.pcap*")):
        if not path.is_file() or look(str(path)) is None:
            continue
        hold(path, max(path.stat().st_size // 7, 100))
        held += 1
    assert held > 200
