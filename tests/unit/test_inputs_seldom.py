"""Inputs that come seldom: terminals, empty files, what is not opened, endless lines, the words of a later tshark."""

from __future__ import annotations

import os
import pty
from pathlib import Path
from types import SimpleNamespace

import pytest

from conntrack.capture import open_capture, pyshark
from conntrack.capture.stream import Stream, cannot_open
from conntrack.capture.tcpdump_text import MOST_LINE_BYTES, is_tcpdump_text
from conntrack.errors import InputError

LINE = b"12:00:00.000001 IP 10.0.0.1.40000 > 10.0.0.2.443: Flags [S], seq 1, win 64240, length 0\n"


def test_a_terminal_is_no_capture() -> None:
    main, other = pty.openpty()
    try:
        name = os.ttyname(other)
        with pytest.raises(InputError, match=r"^/dev/\S+: is a terminal; pipe a capture into it"):
            Stream(name)
    finally:
        os.close(main)
        os.close(other)


def test_an_empty_file_asks_for_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.touch()
    with pytest.raises(InputError, match=r"a\.pcap: empty file \(0 bytes\); was the capture stopped"):
        open_capture([path])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(), "a: no such file; check the name"),
        (PermissionError(), "a: permission denied; run as a user who may read it"),
        (IsADirectoryError(21, "Is a directory"), "a: cannot be opened (Is a directory); check the name"),
    ],
)
def test_what_the_system_does_not_open(error: OSError, said: str) -> None:
    assert str(cannot_open("a", error)) == said


def test_one_of_the_first_eight_lines_is_a_packet() -> None:
    words = b"tcpdump: verbose output suppressed\n"
    assert is_tcpdump_text(words * 7 + LINE)
    assert not is_tcpdump_text(words * 8 + LINE)
    assert not is_tcpdump_text(b"something else\n" + LINE)
    assert not is_tcpdump_text(b"")


def test_a_line_without_an_end_is_one_that_is_not_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(LINE + b"x" * (3 * MOST_LINE_BYTES) + b"\n" + LINE.replace(b"seq 1", b"seq 9"))
    with open_capture([path]) as capture:
        assert sum(len(batch) for batch in capture) == 2
    assert capture.info.tcp_segments == 2


def test_times_of_both_forms_of_tshark() -> None:
    """Seconds, and from tshark 4.4 on a date."""
    assert pyshark._time_ns("1763726400.123456789") == 1_763_726_400_123_456_789
    assert pyshark._time_ns("2025-11-21T12:00:00.123456789Z") == 1_763_726_400_123_456_789
    assert pyshark._time_ns("2025-11-21T12:00:00.5Z") == 1_763_726_400_500_000_000


def layer(name: str, **fields: object) -> SimpleNamespace:
    return SimpleNamespace(layer_name=name, **fields)


@pytest.mark.parametrize(
    "protocols",
    [
        ["eth", "ip", "icmp", "ip", "tcp"],
        ["eth", "ipv6", "icmpv6", "ipv6", "tcp"],
        ["eth", "tcp"],
        ["eth", "ip", "udp"],
        ["eth", "ip", "ip", "tcp"],
    ],
)
def test_a_tcp_layer_that_is_no_segment_of_this_frame(protocols: list[str]) -> None:
    """Quoted by ICMP, in no IP packet, or in one that tshark names and does not hand over."""
    packet = SimpleNamespace(layers=[layer("ip"), layer("tcp")])
    assert pyshark._layers(packet, protocols) == (None, None)


def test_the_innermost_of_several_layers_and_the_first_of_several_values() -> None:
    outer, inner, segment = layer("ip", ttl="1"), layer("ip", ttl=["2", "3"]), layer("tcp")
    outer.duplicate_layers = [inner]
    found = pyshark._layers(SimpleNamespace(layers=[outer, segment]), ["eth", "ip", "ip", "tcp"])
    assert found == (inner, segment)
    assert pyshark._field(inner, "ip", "ttl") == "2"
