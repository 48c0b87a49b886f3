"""`ctrack info`: what of a capture is not whole, and by which paths its segments came."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from frames import block, eth_ipv4_tcp, ethernet, interface, option, packet, section, tcp, write_pcap
from layers import FIRST_MAC, INNER4, SECOND_MAC, erf, ipv4_pieces, snap, wlan

from conntrack.capture import open_capture
from conntrack.cli import main
from conntrack.cli.info import MOST_PATHS


def subframe(payload: bytes, *, last: bool = False) -> bytes:
    frame = FIRST_MAC + SECOND_MAC + struct.pack(">H", len(payload)) + payload
    return frame if last else frame + bytes(-len(frame) % 4)


def test_incomplete_and_paths(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, _ = ipv4_pieces(tcp(payload=b"x" * 40), 32)
    on_vlan = ethernet(INNER4, vlans=[(0x8100, 12)])
    path = str(write_pcap(tmp_path / "a.pcap", [(0, first), (1000, on_vlan), (2000, eth_ipv4_tcp())]))
    assert main(["info", path]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert "incomplete      1 IP packet of which not all fragments came" in shown
    assert "path            eth/vlan 12" in shown
    assert main(["info", path, "--format", "json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["incomplete"], said["subframes"], said["paths"]) == (1, 0, ["", "eth/vlan 12"])


@pytest.mark.parametrize("behind", [0, 1, 3])
@pytest.mark.parametrize("tail", [b"", b"\xff" * 4])
def test_frames_behind_the_first_of_an_aggregate_are_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], behind: int, tail: bytes
) -> None:
    """With a check sequence behind them, or without."""
    frames = [subframe(snap(INNER4), last=n == behind) for n in range(behind + 1)]
    aggregate = wlan(b"".join(frames) + tail, subtype=8, qos=0x80)
    path = write_pcap(tmp_path / "a.pcap", [(0, aggregate)], linktype=105)
    with open_capture([path]) as capture:
        assert sum(len(batch) for batch in capture) == 1
    assert capture.info.subframes == behind
    assert main(["info", str(path)]) == 0
    shown = capfd.readouterr().out
    assert ("behind the first of an 802.11 aggregate (A-MSDU)" in shown) == bool(behind)


def test_an_erf_file_is_read_through_editcap(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """editcap keeps the records as they are; they are a link type of ours."""
    path = tmp_path / "a.erf"
    record = erf(2, b"\0\0" + ethernet(INNER4) + bytes(-(18 + len(ethernet(INNER4))) % 8))[8:]
    path.write_bytes(b"".join(struct.pack("<Q", (1_700_000_000 + n) << 32) + record for n in range(8)))
    assert main(["info", str(path), "--format", "json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["files"][0]["format"], said["tcp_segments"], said["skipped"]) == ("pcapng through editcap", 8, {})
    assert said["first_ts"] == "2023-11-14T22:13:20.000000000Z"


def test_comments_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pcapng"
    remark = option(1, b"look here") + option(0, b"")
    path.write_bytes(section() + interface() + packet(eth_ipv4_tcp(), 1, options=remark) + packet(eth_ipv4_tcp(), 2))
    assert main(["info", str(path)]) == 0
    assert "comments        1 on its packets; their text is not read\n" in capfd.readouterr().out
    assert main(["info", str(path), "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["files"][0]["comments"] == 1
    assert main(["info", str(write_pcap(tmp_path / "a.pcap", [(0, eth_ipv4_tcp())]))]) == 0
    assert "on its packets" not in capfd.readouterr().out


def test_what_interfaces_counted_and_what_lies_outside(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    counted = block(
        5, struct.pack("<III", 0, 0, 0) + option(4, struct.pack("<Q", 90)) + option(5, struct.pack("<Q", 7))
    )
    path = tmp_path / "a.pcapng"
    packets = [packet(eth_ipv4_tcp(), 10**15 + n * 10**6) for n in range(3)]
    path.write_bytes(b"".join([section(), interface(), *packets, counted]))
    assert main(["info", str(path), "--from", "1000000001"]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "90 packets received, 7 packets dropped while it was taken" in shown
    assert "not tracked 1 packet: before --from or after --to" in shown


def test_paths_beyond_those_that_are_listed_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    frames = [ethernet(INNER4, vlans=[(0x8100, number)]) for number in range(1, MOST_PATHS + 8)]
    path = str(write_pcap(tmp_path / "a.pcap", list(enumerate(frames))))
    assert main(["info", path]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert len([line for line in shown if line.startswith("path ")]) == MOST_PATHS + 1
    assert shown[-1].split() == ["path", "and", "7", "more"]


def test_a_capture_of_nothing_has_no_times(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(write_pcap(tmp_path / "a.pcap", []))]) == 0
    words = [line.split()[0] for line in capfd.readouterr().out.splitlines()]
    assert not {"first", "last", "duration", "rate"} & set(words)
