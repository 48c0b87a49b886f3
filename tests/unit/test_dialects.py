"""Dialects of pcap that share a magic number, or have one of their own; snoop. Made byte by byte and by editcap."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from frames import eth_ipv4_tcp, ethernet, ipv4, tcp, write_pcap

from conntrack.capture import CaptureInfo, open_capture
from conntrack.errors import InputError

T0 = 1_700_000_000_123_456_000
PACKETS = [(T0 + i * 1_000_000, eth_ipv4_tcp(sport=1000 + i, payload=b"x" * i)) for i in range(20)]


def read(path: Path) -> tuple[np.ndarray, CaptureInfo]:
    with open_capture([path]) as capture:
        batches = [batch.copy() for batch in capture]
    return np.concatenate(batches), capture.info


def dialect(
    extra: bytes, magic: int = 0xA1B2C3D4, *, order: str = "<", header_end: bytes = b"", fraction_ns: int = 1000
) -> bytes:
    """The packets in a file whose record headers end with `extra`."""
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1) + header_end
    for ts_ns, frame in PACKETS:
        times = ts_ns // 10**9, ts_ns % 10**9 // fraction_ns
        out += struct.pack(order + "IIII", *times, len(frame), len(frame)) + extra + frame
    return out


@pytest.fixture
def plain(tmp_path: Path) -> np.ndarray:
    return read(write_pcap(tmp_path / "plain.pcap", PACKETS, nano=True))[0]


MODIFIED = struct.pack("<IHBx", 2, 0x0800, 0)
SUSE = struct.pack("<IHBBB3x", 2, 0x0800, 4, 1, 1)
NOKIA = struct.pack("<I", 0x9FBFB601)


@pytest.mark.parametrize(
    "content",
    [
        dialect(MODIFIED),
        dialect(struct.pack(">IHBx", 2, 0x0800, 0), order=">"),
        dialect(NOKIA),
        dialect(struct.pack(">I", 0xBFBFD902), order=">"),
        dialect(MODIFIED, 0xA1B2CD34),
        dialect(SUSE, 0xA1B2CD34),
        dialect(b"", 0x1C0001AC, header_end=b"\x00\x01\x00\x00", fraction_ns=1),
        dialect(b"", 0x1C0001AB, header_end=b"\x00\x01\x00\x00"),
        dialect(b"", 0x1C0001AC, order=">", header_end=b"\x00\x01\x00\x00", fraction_ns=1),
    ],
    ids=["red-hat", "red-hat-be", "nokia", "nokia-be", "kuznetzov", "suse", "ixia-hw", "ixia-sw", "ixia-hw-be"],
)
def test_the_same_segments(tmp_path: Path, plain: np.ndarray, content: bytes) -> None:
    path = tmp_path / "dialect.pcap"
    path.write_bytes(content)
    segments, info = read(path)
    assert (info.faults, info.skipped) == ([], {})
    assert (segments == plain).all()
    path.write_bytes(content[:-3])
    with open_capture([path]) as capture:
        assert sum(len(batch) for batch in capture) == 19
    assert "cut short in packet 20" in str(capture.info.faults[0])


@pytest.mark.parametrize(
    "kind", ["pcap", "nsecpcap", "modpcap", "nokiapcap", "rh6_1pcap", "suse6_3pcap", "snoop", "pcapng"]
)
def test_as_editcap_writes_it(tmp_path: Path, plain: np.ndarray, kind: str) -> None:
    path = tmp_path / kind
    subprocess.run(["editcap", "-F", kind, tmp_path / "plain.pcap", path], check=True)
    segments, info = read(path)
    assert (info.faults, info.skipped) == ([], {})
    assert (segments == plain).all()


def test_interface_types_of_aix(tmp_path: Path) -> None:
    frame = eth_ipv4_tcp()
    head = struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 2, 0, 0, 96, 6)
    path = tmp_path / "aix.pcap"
    path.write_bytes(head + struct.pack(">IIII", 5, 123_456_789, len(frame) + 100, len(frame)) + frame)
    segments, info = read(path)
    assert (segments["ts_ns"].tolist(), segments["wire_bytes"].tolist()) == ([5_123_456_789], [len(frame) + 100])
    assert info.faults == []


def test_a_single_damaged_record_does_not_change_the_dialect(tmp_path: Path) -> None:
    content = bytearray(dialect(b""))
    struct.pack_into("<I", content, 24 + 4, 2_000_000)  # microseconds
    path = tmp_path / "odd.pcap"
    path.write_bytes(content)
    segments, info = read(path)
    assert (len(segments), info.faults) == (20, [])


class TestSnoop:
    def snoop(self, datalink: int = 4, *, version: int = 2, drops: int = 3, pad: int = 2) -> bytes:
        out = b"snoop\0\0\0" + struct.pack(">II", version, datalink)
        for ts_ns, frame in PACKETS:
            length = 24 + len(frame) + pad
            times = ts_ns // 10**9, ts_ns % 10**9 // 1000
            out += struct.pack(">IIIIII", len(frame) + 9, len(frame), length, drops, *times) + frame + b"\xee" * pad
        return out

    def write(self, tmp_path: Path, content: bytes) -> Path:
        path = tmp_path / "a.snoop"
        path.write_bytes(content)
        return path

    def test_segments(self, tmp_path: Path, plain: np.ndarray) -> None:
        segments, info = read(self.write(tmp_path, self.snoop()))
        assert (segments["wire_bytes"] == plain["wire_bytes"] + 9).all()
        segments["wire_bytes"] -= 9
        assert (segments == plain).all()
        assert info.faults == []

    def test_other_datalinks(self, tmp_path: Path) -> None:
        with open_capture([self.write(tmp_path, self.snoop(9))]) as capture:
            assert list(capture) == []
        assert capture.info.skipped == {"unsupported_link_type": 20}

    def test_another_version(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, self.snoop(version=5))
        with pytest.raises(InputError, match="a snoop capture of version 5, which is not read; use: editcap -F pcap"):
            read(path)

    @pytest.mark.parametrize(
        ("offset", "value", "said"),
        [(4, 10_000, "it claims 10000 bytes"), (8, 20, "it claims 20 bytes"), (8, 2**31, "it claims 2147483648 bytes")],
    )
    def test_damage(self, tmp_path: Path, offset: int, value: int, said: str) -> None:
        content = bytearray(self.snoop())
        struct.pack_into(">I", content, 16 + offset, value)
        with open_capture([self.write(tmp_path, bytes(content))]) as capture:
            assert list(capture) == []
        assert str(capture.info.faults[0]).endswith(f"damaged at packet 1 ({said}, offset 16); 0 packets used")

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        content = self.snoop()[: 16 + 3 * 90]
        for size in range(8, len(content)):
            with open_capture([self.write(tmp_path, content[:size])]) as capture:
                rows = sum(len(batch) for batch in capture)
            at, whole = 16, 0
            for _, frame in PACKETS:
                at += 24 + len(frame) + 2
                whole += at <= size
            assert rows == whole
            assert len(capture.info.faults) <= 1


def test_the_check_sequence_by_the_bits_of_the_link_type(tmp_path: Path) -> None:
    frame = ethernet(ipv4(tcp(payload=b"x" * 100), total_length=0)) + b"FCS!"
    path = write_pcap(tmp_path / "fcs.pcap", [(1000, frame)], linktype=1 | 1 << 26 | 2 << 28)
    segments, _ = read(path)
    assert (segments["payload_bytes"].tolist(), segments["wire_bytes"].tolist()) == ([100], [len(frame)])
