"""/proc/net/tcp: lines as the kernel prints them, and lines that are none."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from conntrack.addresses import ip_text
from conntrack.host import procfs
from conntrack.states import NO_TIME_NS, TcpState

NOW = 1_763_726_400 * 10**9
HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TABLE = HEAD + (
    b"   0: 00000000:07E8 00000000:0000 0A 00000000:00000005 00:00000000 00000000  1000        0 1587 1 0\n"
    b"   1: 0200000A:0050 0100000A:9C40 01 0000000B:00000016 01:00000014 00000003     0        0 4242 2 0\n"
    b"   2: 0200000A:0050 0100000A:9C41 06 00000000:00000000 03:00000DAC 00000000     0        0 0 3 0\n"
    b"   3: 0200000A:0050 0100000A:9C42 03 00000000:00000000 01:00000064 00000002     0        0 0 1 0\n"
)
TABLE6 = HEAD + (
    b"   0: B80D0120000000000000000001000000:0050 B80D0120000000000000000002000000:0051 08 00000000:00000001 "
    b"00:00000000 00000000     0        0 77 1 0\n"
    b"   1: 0000000000000000FFFF00000200000A:0050 0000000000000000FFFF00000100000A:0052 01 00000000:00000000 "
    b"00:00000000 00000000     0        0 78 1 0\n"
)
"""As a little-endian machine prints them: the words of an address are in its byte order."""


def texts(row: Any) -> tuple[str, int, str, int]:
    version = row["ip_version"]
    ips = [ip_text(row[name], version) for name in ("local_ip", "remote_ip")]
    return ips[0], int(row["local_port"]), ips[1], int(row["remote_port"])


def test_every_field_of_a_line() -> None:
    listening, open_, over, half = procfs.parse(TABLE, b"", NOW)
    assert [TcpState(row["state"]).name for row in (listening, open_, over, half)] == [
        "LISTEN",
        "ESTABLISHED",
        "TIME_WAIT",
        "SYN_RECEIVED",
    ]
    assert texts(listening) == ("0.0.0.0", 2024, "0.0.0.0", 0)
    assert (listening["recv_queue"], listening["uid"], listening["inode"]) == (5, 1000, 1587)
    assert listening["send_queue"] == -1
    assert texts(open_) == ("10.0.0.2", 80, "10.0.0.1", 40_000)
    assert (open_["send_queue"], open_["recv_queue"]) == (11, 22)
    assert (open_["timer"], open_["timer_ns"], open_["timeouts"]) == (1, 200_000_000, 3)
    assert (over["timer"], over["timer_ns"]) == (3, 35 * 10**9)
    assert over["since_ts_ns"] == NOW - 25 * 10**9
    assert half["timeouts"] == 2


def test_ipv6_and_ipv4_through_it() -> None:
    six, four = procfs.parse(HEAD, TABLE6, NOW)
    assert texts(six) == ("2001:db8::1", 80, "2001:db8::2", 81)
    assert (six["ip_version"], TcpState(six["state"])) == (6, TcpState.CLOSE_WAIT)
    assert texts(four) == ("10.0.0.2", 80, "10.0.0.1", 82)
    assert four["ip_version"] == 4


def test_what_is_not_told_is_unknown() -> None:
    rows = procfs.parse(TABLE, TABLE6, NOW)
    for name in ("idle_ns", "rtt_ns"):
        assert (rows[name] == NO_TIME_NS).all()
    for name in ("retransmits", "sent_bytes", "received_bytes", "drops", "pid"):
        assert (rows[name] == -1).all()
    assert (rows["at_ts_ns"] == NOW).all()


@pytest.mark.parametrize("text", [b"", b"\n\n", HEAD, HEAD[:20]])
def test_a_table_without_a_line_is_empty(text: bytes) -> None:
    assert len(procfs.parse(text, text, NOW)) == 0


def test_lines_that_are_none_are_left_out() -> None:
    chance = random.Random(5)
    kept = set()
    for _ in range(5_000):
        raw = bytearray(TABLE + TABLE6[len(HEAD) :])
        for _ in range(chance.randrange(1, 30)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        rows = procfs.parse(bytes(raw), b"", NOW)
        kept.add(len(rows))
        assert np.isin(rows["state"], [*TcpState]).all()
    assert min(kept) < 5 and max(kept) >= 6


def test_read_gives_this_process_s_namespace() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        rows = procfs.read()
        mine = rows[rows["local_port"] == server.getsockname()[1]]
        assert mine["state"].tolist() == [TcpState.LISTEN]
