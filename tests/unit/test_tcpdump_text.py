"""tcpdump's text, line by line: what is read of each form, what is counted, and what is refused in one line."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conntrack.addresses import ip_text
from conntrack.capture import CaptureInfo, open_capture
from conntrack.capture.relative import MOST_CONNECTIONS, Numbers
from conntrack.capture.tcpdump_line import port_of
from conntrack.core.abi import HAS_FAST_OPEN
from conntrack.errors import InputError

OPENING = """\
12:00:00.000001 IP 10.0.0.1.40000 > 10.0.0.2.443: Flags [S], seq 4294967290, win 64240, options \
[mss 1460,sackOK,TS val 7 ecr 0,nop,wscale 7], length 0
12:00:00.000300 IP 10.0.0.2.443 > 10.0.0.1.40000: Flags [S.], seq 500000, ack 4294967291, win 65160, length 0
12:00:00.000400 IP 10.0.0.1.40000 > 10.0.0.2.443: Flags [.], ack 1, win 502, length 0
12:00:00.000500 IP 10.0.0.1.40000 > 10.0.0.2.443: Flags [P.], seq 1:101, ack 1, win 502, length 100: HTTP
12:00:00.000600 IP 10.0.0.2.443 > 10.0.0.1.40000: Flags [F.], seq 1, ack 101, win 509, length 0
"""


def read(tmp_path: Path, text: str, **how: int) -> tuple[np.ndarray, CaptureInfo]:
    path = tmp_path / "pasted.txt"
    path.write_text(text)
    with open_capture([path], **how) as capture:
        batches = [batch.copy() for batch in capture]
    assert capture.info.packets == capture.info.tcp_segments + sum(capture.info.skipped.values())
    return (np.concatenate(batches) if batches else np.zeros(0)), capture.info


def test_relative_numbers_are_made_absolute(tmp_path: Path) -> None:
    segments, info = read(tmp_path, OPENING)
    assert segments["seq"].tolist() == [4294967290, 500000, 4294967291, 4294967291, 500001]
    assert segments["ack"].tolist() == [0, 4294967291, 500001, 500001, 95]  # past 2^32
    assert segments["flags"].tolist() == [2, 18, 16, 24, 17]
    assert segments["payload_bytes"].tolist() == [0, 0, 0, 100, 0]
    first = segments[0]
    assert (first["mss"], first["window_scale"], first["tsval"], first["tsecr"]) == (1460, 7, 7, 0)
    assert first["wire_bytes"] == 14 + 20 + 40
    assert info.first_ts_ns == 43_200_000_001_000
    assert info.skipped == {}


def test_absolute_numbers_stay(tmp_path: Path) -> None:
    text = (
        OPENING.replace("ack 1,", "ack 500001,")
        .replace("seq 1:101", "seq 4294967291:95")
        .replace("[F.], seq 1,", "[F.], seq 500001,")
    )
    assert (
        read(tmp_path, text.replace("ack 101", "ack 95"))[0]["seq"].tolist()
        == read(tmp_path, OPENING)[0]["seq"].tolist()
    )


@pytest.mark.parametrize("batch_segments", [1, 2, 3, 100])
def test_any_size_of_batch_and_no_last_line_end(tmp_path: Path, batch_segments: int) -> None:
    whole, _ = read(tmp_path, OPENING)
    segments, _ = read(tmp_path, OPENING.rstrip(), batch_segments=batch_segments)
    assert (segments == whole).all()


def test_cut_lines_are_counted(tmp_path: Path) -> None:
    for size in range(OPENING.index("12:00:00.000300") + 30, len(OPENING) - 10):
        segments, info = read(tmp_path, OPENING[:size])
        lines = OPENING[:size].splitlines()
        assert info.packets in (len(lines), len(lines) - 1)
        assert len(segments) >= len(lines) - 1


def test_v_prints_a_packet_on_two_lines(tmp_path: Path) -> None:
    text = """\
12:00:00.000001 IP (tos 0x0, ttl 57, id 4711, offset 0, flags [DF], proto TCP (6), length 60)
    10.0.0.1.40000 > 10.0.0.2.80: Flags [P.], cksum 0x1 (incorrect -> 0x2), seq 7:15, ack 9, win 1, length 8: HTTP
\tGET / HTTP/1.1
\t    1.2.3.4.5 > 6.7.8.9.10: Flags [S], seq 1, win 1, length 0
12:00:00.000002 IP (tos 0x0, ttl 1, id 1, offset 0, flags [none], proto UDP (17), length 60)
    10.0.0.1.40000 > 10.0.0.2.53: 1+ A? example.org. (29)
12:00:00.000003 IP (tos 0x0, ttl 1, id 1, offset 0, flags [none], proto TCP (6), length 60)
12:00:00.000004 IP6 (hlim 3, next-header TCP (6) payload length: 20) 2001:db8::1.80 > 2001:db8::2.1: Flags [R], seq 5, \
win 0, length 0
"""
    segments, info = read(tmp_path, text)
    assert (info.packets, info.skipped) == (4, {"udp": 1, "cut_short_header": 1})
    assert segments["ttl"].tolist() == [57, 3]
    assert segments["ip_id"].tolist() == [4711, 0]
    assert segments["ip_version"].tolist() == [4, 6]
    assert ip_text(segments[1]["src_ip"].tobytes(), 6) == "2001:db8::1"


def test_v_without_times(tmp_path: Path) -> None:
    """tcpdump -t -v: the first line names no address."""
    text = """\
IP (tos 0x0, ttl 57, id 4711, offset 0, flags [DF], proto TCP (6), length 60)
    10.0.0.1.40000 > 10.0.0.2.80: Flags [P.], cksum 0x1 (incorrect -> 0x2), seq 7:15, ack 9, win 1, length 8: HTTP
IP (tos 0x0, ttl 1, id 1, offset 0, flags [none], proto UDP (17), length 60)
    10.0.0.1.40000 > 10.0.0.2.53: 1+ A? example.org. (29)
IP6 (hlim 3, next-header TCP (6) payload length: 20) 2001:db8::1.80 > 2001:db8::2.1: Flags [R], seq 5, win 0, length 0
"""
    segments, info = read(tmp_path, text)
    assert (info.packets, info.skipped) == (3, {"udp": 1})
    assert segments["ttl"].tolist() == [57, 3]
    assert [note.partition(": ")[2] for note in info.notes] == [
        "no times are printed (-t); what depends on time is not known"
    ]


def test_other_packets_are_counted_by_what_they_are(tmp_path: Path) -> None:
    text = (
        OPENING
        + """\
12:00:01.000000 ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28
12:00:01.000000 IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1, length 64
12:00:01.000000 IP 10.0.0.1.53 > 10.0.0.2.99: 1 1/0/0 A 1.2.3.4 (40)
12:00:01.000000 IP 10.0.0.1 > 10.0.0.2: ESP(spi=0x1,seq=0x1), length 100
12:00:01.000000 IP 10.0.0.1 > 10.0.0.2: tcp
12:00:01.000000 STP 802.1d, Config, Flags [none], length 43
"""
    )
    _, info = read(tmp_path, text)
    assert info.skipped == {"arp": 1, "not_ip": 1, "ip_fragment": 1, "udp": 1, "icmp": 1, "esp": 1}


def test_lines_that_are_not_tcpdumps_are_told(tmp_path: Path) -> None:
    text = (
        "tcpdump: verbose output suppressed, use -v[v]... for full protocol decode\n"
        "listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n"
        + OPENING
        + "what is this?\n\t0x0000:  4500\n5 packets captured\n7 packets received by filter\n2 packets dropped"
        " by kernel\n"
    )
    segments, info = read(tmp_path, text)
    assert len(segments) == 5
    assert info.notes[-1].endswith("pasted.txt: 1 of its 12 lines are none of tcpdump's")


def test_names_of_hosts_and_services(tmp_path: Path) -> None:
    text = OPENING.replace("10.0.0.2.443", "server.example.https").replace("10.0.0.1.40000", "client.40000")
    segments, info = read(tmp_path, text)
    assert set(segments["dst_port"].tolist()) == {443, 40000}
    assert {ip_text(row["src_ip"].tobytes(), 4) for row in segments} == {"240.0.0.1", "240.0.0.2"}
    assert info.notes[1].endswith("host names were printed; client is shown as 240.0.0.1 and 1 more")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            OPENING.replace(".443", ".nosuchservice"),
            "line 1: port 'nosuchservice' is no service known here; print",
        ),
        (
            "12:00:00.000001 IP 10.0.0.1.1 > 10.0.0.2.2: tcp 0\n",
            "line 1: -q leaves out flags and numbers; print without",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/pasted.txt: {said}")


def test_a_filter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(OPENING)
    with pytest.raises(InputError, match="what tcpdump prints cannot be filtered; give the expression to tcpdump"):
        open_capture([tmp_path / "a.txt"], filter="tcp")


class TestTimes:
    def times(self, tmp_path: Path, *printed: str) -> tuple[list[int], CaptureInfo]:
        lines = [f"{time}IP 10.0.0.1.1 > 10.0.0.2.2: Flags [.], ack 1, win 1, length 0\n" for time in printed]
        segments, info = read(tmp_path, "".join(lines))
        return segments["ts_ns"].tolist(), info

    def test_past_midnight(self, tmp_path: Path) -> None:
        found, _ = self.times(tmp_path, "23:59:59.999999 ", "00:00:00.000001 ", "23:59:59.000000 ")
        assert found == [86_399_999_999_000, 86_400_000_001_000, 172_799_000_000_000]

    def test_dates_and_seconds(self, tmp_path: Path) -> None:
        assert self.times(tmp_path, "2023-11-14 22:13:20.123456 ")[0] == [1_700_000_000_123_456_000]
        found, info = self.times(tmp_path, "1700000000.123456 ", "1700000000.123456789 ")
        assert found == [1_700_000_000_123_456_000, 1_700_000_000_123_456_789]
        assert info.notes == []

    def test_differences(self, tmp_path: Path) -> None:
        steps = [" 00:00:00.000000 ", " 00:00:01.000000 ", " 00:00:00.500000 ", " 00:00:02.000000 "]
        found, info = self.times(tmp_path, *steps)
        assert found == [0, 10**9, 15 * 10**8, 35 * 10**8]
        assert "since the packet before (-ttt)" in info.notes[0]
        found, info = self.times(tmp_path, *sorted(steps))
        assert found == [0, 5 * 10**8, 10**9, 2 * 10**9]
        assert "since the first one (-ttttt)" in info.notes[0]

    def test_none(self, tmp_path: Path) -> None:
        found, info = self.times(tmp_path, "", "")
        assert found == [0, 0]
        assert "no times are printed (-t)" in info.notes[0]


def test_hostile_lines_are_quick_and_small(tmp_path: Path) -> None:
    for tail in ("x" * 300_000, ": Flags [" * 30_000, " > " * 90_000, "options [" * 30_000, "(" * 200_000):
        segments, info = read(tmp_path, OPENING + "12:00:00.000001 IP " + tail + "\n" + OPENING)
        assert len(segments) == 10
        assert info.packets >= 10


def test_connections_past_the_limit_are_forgotten() -> None:
    numbers = Numbers()
    for n in range(MOST_CONNECTIONS + 3):
        numbers.absolute((b"a", n), (b"b", 1), 16, 5, 5, 0)
    assert numbers.forgotten == 3


def test_from_a_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "conntrack", "flows", "-", "--format", "csv"]
    done = subprocess.run(command, input=OPENING, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 2
    assert done.stderr == "ctrack: -: no date is printed; the day is taken for 1970-01-01\n"


def test_words_for_ports_where_the_system_has_no_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_list(word: str, protocol: str) -> int:
        raise OSError(f"service/proto not found: {word}/{protocol}")

    monkeypatch.setattr(socket, "getservbyname", no_list)
    port_of.cache_clear()
    try:
        assert [port_of(word) for word in ("ssh", "https", "443")] == [22, 443, 443]
        with pytest.raises(InputError, match="port 'gopher' is no service known here; print numbers with -nn"):
            read(tmp_path, OPENING.replace(".443", ".gopher"))
    finally:
        port_of.cache_clear()


def test_fast_open_and_sctp(tmp_path: Path) -> None:
    first = OPENING.splitlines()[0]
    opened = re.sub(r"options \[[^]]*\]", "options [mss 1460,tfo  cookiereq,nop,nop]", first)
    other = "12:00:01.000000 IP 10.0.0.1.5 > 10.0.0.2.6: sctp (1) [INIT]"
    segments, info = read(tmp_path, f"{opened}\n{other}\n")
    assert (segments["options"][0] & HAS_FAST_OPEN, segments["mss"][0]) == (HAS_FAST_OPEN, 1460)
    assert info.skipped == {"sctp": 1}
