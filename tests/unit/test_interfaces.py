"""What captures say of their interfaces: names, clocks, drops; and that a file of nothing else stays small."""

from __future__ import annotations

import struct
from pathlib import Path

from frames import block, eth_ipv4_tcp, interface, old_packet, option, packet, pcap_bytes, section

from conntrack.capture import open_capture
from conntrack.capture.batch import Batch, Reader
from conntrack.capture.interfaces import MOST_DESCRIBED, Interface
from conntrack.capture.pcap import PcapReader
from conntrack.capture.pcapng import PcapngReader
from conntrack.capture.snoop import SnoopReader
from conntrack.capture.stream import Stream

FRAME = eth_ipv4_tcp()


def read(tmp_path: Path, content: bytes, kind: type = PcapngReader, batch: Batch | None = None) -> Reader:
    path = tmp_path / "a"
    path.write_bytes(content)
    batch = batch or Batch(100)
    with Stream(str(path)) as stream:
        reader: Reader = kind(stream, batch)
        while True:
            if reader.walk(batch):
                batch.rows = 0
            elif not stream.more(reader.needed):
                break
        reader.finish(batch)
    return reader


def statistics(number: int, *options: bytes, big_endian: bool = False) -> bytes:
    return block(5, struct.pack((">" if big_endian else "<") + "III", number, 0, 0) + b"".join(options))


def counter(code: int, value: int) -> bytes:
    return option(code, struct.pack("<Q", value))


def described(*options: bytes, link_type: int = 1, snap_bytes: int = 0) -> bytes:
    return block(1, struct.pack("<HHI", link_type, 0, snap_bytes) + b"".join(options) + option(0, b""))


def test_pcap_and_snoop(tmp_path: Path) -> None:
    content = pcap_bytes([(1, FRAME)], nano=True, snaplen=96, linktype=113)
    assert read(tmp_path, content, PcapReader).interfaces() == [Interface(113, 96, "1 ns")]
    content = b"snoop\0\0\0" + struct.pack(">IIIIIIII", 2, 4, 60, 60, 84, 17, 1, 2) + b"\0" * 60
    assert read(tmp_path, content, SnoopReader).interfaces() == [Interface(1, os="Solaris", dropped=17)]


def test_words_of_sections_and_interfaces(tmp_path: Path) -> None:
    head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + option(3, b"Linux") + option(4, b"Dumpcap"))
    reader = read(
        tmp_path,
        head
        + described(option(2, b"eth0"), option(3, b"uplink\0"), option(9, b"\x09"), option(11, b"\0tcp"), snap_bytes=96)
        + described(option(2, b"\xffodd"), option(12, b"FreeBSD"), option(9, b"\xa0"), option(11, b"\x01\0\0"))
        + section()
        + interface(101, tsresol=4),
    )
    assert reader.interfaces() == [
        Interface(1, 96, "1 ns", "eth0", "uplink", "tcp", "Linux", "Dumpcap"),
        Interface(1, 0, "2^-32 s", "\\xffodd", "", "", "FreeBSD", "Dumpcap"),
        Interface(101, 0, "10^-4 s"),
    ]


def test_received_and_dropped(tmp_path: Path) -> None:
    reader = read(
        tmp_path,
        section()
        + interface()
        + interface()
        + interface()
        + statistics(0, counter(4, 50), counter(5, 1))
        + statistics(0, counter(4, 100), counter(5, 2), counter(7, 30))  # the counters run on: the last one counts
        + statistics(7, counter(5, 99))
        + packet(FRAME, 1, number=1, options=counter(4, 5) + option(0, b""))
        + packet(FRAME, 2, number=1, options=counter(4, 6) + option(0, b""))
        + old_packet(FRAME, 3, number=1, drops=7)
        + old_packet(FRAME, 4, number=1, drops=0xFFFF),
    )
    assert [(i.received, i.dropped) for i in reader.interfaces()] == [(100, 32), (None, 18), (None, None)]


def test_statistics_that_lead_nowhere(tmp_path: Path) -> None:
    for options in (b"\x05\x00\xff\xff", option(5, b"\x01\x02\x03\x04"), b"\x05\x00"):
        reader = read(tmp_path, section() + interface() + statistics(0, options))
        assert reader.interfaces()[0].dropped is None


def test_comments_are_counted(tmp_path: Path) -> None:
    remark = option(1, b"look here") + option(1, b"and here") + option(0, b"")
    reader = read(tmp_path, section() + interface() + packet(FRAME, 1, options=remark) + packet(FRAME, 2))
    assert isinstance(reader, PcapngReader)
    assert reader.comments == 2


def test_the_check_sequence_by_a_packets_flags(tmp_path: Path) -> None:
    from frames import ethernet, ipv4, tcp

    frame = ethernet(ipv4(tcp(payload=b"x" * 100), total_length=0)) + b"FCS!"
    flags = option(2, struct.pack("<I", 4 << 5)) + option(0, b"")
    batch = Batch(10)
    read(tmp_path, section() + interface() + packet(frame, 1, options=flags) + packet(frame, 2), batch=batch)
    assert batch.segments["payload_bytes"][:2].tolist() == [100, 104]


def test_a_file_of_interfaces_and_sections_only(tmp_path: Path) -> None:
    content = (section() + described(option(2, b"n" * 4000)) * 50) * 100 + section() + interface() + packet(FRAME, 7)
    batch = Batch(10)
    reader = read(tmp_path, content, batch=batch)
    found = reader.interfaces()
    assert len(found) == MOST_DESCRIBED
    assert {len(one.name) for one in found} == {256}
    assert batch.segments["ts_ns"][:1].tolist() == [7000]


def test_statistics_beyond_the_described_ones(tmp_path: Path) -> None:
    content = section() + interface() * (MOST_DESCRIBED + 5) + statistics(MOST_DESCRIBED + 3, counter(5, 9))
    reader = read(tmp_path, content + statistics(3, counter(5, 8)))
    assert [one.dropped for one in reader.interfaces()].count(8) == 1
    with open_capture([tmp_path / "a"]) as capture:
        assert list(capture) == []
    assert capture.info.faults == []
