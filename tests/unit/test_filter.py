"""Filters: libpcap decides, frames that do not pass are counted, and an expression that is none is said in one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from frames import eth_ipv4_tcp, ethernet, interface, ipv4, ipv6, packet, section, tcp, write_pcap, write_pcapng

from conntrack.capture import CaptureInfo, open_capture
from conntrack.capture import filter as filters
from conntrack.errors import ConntrackError, InputError

PACKETS = [
    (n * 1000, eth_ipv4_tcp(f"10.0.{n % 3}.1", 1000 + n, "192.0.2.9", (80, 443)[n % 2], payload=b"x" * n))
    for n in range(60)
]


def read(path: Path, expression: str, batch_segments: int = 8192) -> tuple[np.ndarray, CaptureInfo]:
    with open_capture([path], filter=expression, batch_segments=batch_segments) as capture:
        batches = [batch.copy() for batch in capture]
    assert capture.info.packets == capture.info.tcp_segments + sum(capture.info.skipped.values())
    return np.concatenate([np.zeros(0, batches[0].dtype), *batches]) if batches else np.zeros(0), capture.info


@pytest.mark.parametrize("write", [write_pcap, write_pcapng])
def test_what_does_not_pass_is_counted(tmp_path: Path, write: object) -> None:
    path = write(tmp_path / "a", PACKETS)
    segments, info = read(path, "tcp port 443 and net 10.0.1.0/24", batch_segments=3)
    assert set(segments["dst_port"].tolist()) == {443}
    assert segments["frame"].tolist() == [n + 1 for n in range(60) if n % 2 and n % 3 == 1]
    assert (info.packets, info.skipped) == (60, {"filtered": 50})
    assert (info.first_ts_ns, info.last_ts_ns) == (0, 59_000)


def test_captures_that_are_open_side_by_side(tmp_path: Path) -> None:
    """Each has memory of its own, and the filter holds for all of it."""
    paths = [write_pcap(tmp_path / str(n), [(at + n, frame) for at, frame in PACKETS]) for n in range(3)]
    with open_capture(paths, filter="tcp port 443", batch_segments=7) as capture:
        ports = [port for batch in capture for port in batch["dst_port"].tolist()]
    assert ports == [443] * 90
    assert (capture.info.packets, capture.info.skipped) == (180, {"filtered": 90})


def test_the_length_on_the_wire_is_what_greater_means(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    path.write_bytes(section() + interface() + packet(PACKETS[0][1], 1, wire=1500) + packet(PACKETS[1][1], 2))
    assert read(path, "greater 1000")[0]["frame"].tolist() == [1]


def test_a_program_for_each_link_type(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    plain, six = ipv4(tcp(dport=443)), ipv6(tcp(dport=443))
    path.write_bytes(
        section()
        + interface(1)
        + interface(101)
        + interface(229)
        + interface(113)
        + interface(65_000)
        + packet(ethernet(plain), 1)
        + packet(plain, 2, number=1)
        + packet(six, 3, number=2)
        + packet(b"\0" * 14 + b"\x08\x00" + plain, 4, number=3)
        + packet(b"anything", 5, number=4)
        + packet(b"", 6, number=1)
    )
    segments, info = read(path, "tcp dst port 443")
    assert segments["frame"].tolist() == [1, 2, 3, 4]
    assert info.skipped == {"unsupported_link_type": 1, "filtered": 1}
    assert read(path, "ip")[1].skipped == {"unsupported_link_type": 1, "filtered": 2}  # on IPV6 nothing passes


def test_the_same_frames_as_tcpdump(shared: Path) -> None:
    expressions = (
        "tcp",
        "tcp port 80 or tcp port 22",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "ip6 and tcp",
        "less 80",
    )
    files = sorted((shared / "captures").rglob("*.pcap"))[::16]
    assert len(files) > 5
    compared = 0
    for path in files:
        for expression in expressions:
            done = subprocess.run(
                ["tcpdump", "-nn", "-r", path, "-w", "-", expression], capture_output=True, check=False
            )
            if done.returncode:
                continue
            with open_capture([path], filter=expression) as capture:
                list(capture)
            passed = capture.info.packets - capture.info.skipped.get("filtered", 0)
            listed = subprocess.run(["capinfos", "-c", "-M", "-T", "-r", "-"], input=done.stdout, capture_output=True)
            assert passed == int(listed.stdout.split()[-1]), (path, expression)
            compared += passed
    assert compared > 100


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("tcp prt 5", "--filter: can't parse filter expression: syntax error, in 'tcp prt 5'"),
        ("port nosuchport", "--filter: unknown port 'nosuchport', in 'port nosuchport'"),
        ("tcp and udp and arp", "--filter: expression rejects all packets, in "),
        ("tcp\0", "--filter: a NUL character"),
    ],
)
def test_what_is_no_expression(tmp_path: Path, expression: str, said: str) -> None:
    path = write_pcap(tmp_path / "a.pcap", PACKETS)
    with pytest.raises(ConntrackError) as caught:
        read(path, expression)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_not_for_this_link_type(tmp_path: Path) -> None:
    said = "a.* is not for link type RAW: ethernet addresses supported only on ethernet"
    path = write_pcap(tmp_path / "a.pcap", [(1, ipv4(tcp()))], linktype=101)
    with pytest.raises(InputError, match=said):
        read(path, "ether host 02:00:00:00:00:01")
    path.write_bytes(section() + interface(1) + packet(PACKETS[0][1], 1) + interface(101))
    with pytest.raises(InputError, match=said):
        read(path, "ether host 02:00:00:00:00:01")


def test_without_libpcap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "LIBRARIES", ("libnothing.so.9",))
    with pytest.raises(
        ConntrackError, match=r"^--filter: needs libpcap, which is not installed; install .*libpcap0\.8"
    ):
        read(write_pcap(tmp_path / "a.pcap", PACKETS), "tcp")
