"""Generated captures: right TCP, the same bytes every time, and the truth that goes with them.

The packets are read back here by a few lines of `struct` that share nothing with the package, and each conversation is
followed number by number.
"""

from __future__ import annotations

import io
import json
import struct
from collections import Counter, defaultdict
from ipaddress import IPv6Address
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from conntrack.capture import open_capture
from conntrack.core.abi import HAS_SACK_PERMITTED, HAS_TIMESTAMP, SEGMENT_DTYPE
from conntrack.generate import SCENARIOS, generate, segments
from conntrack.generate.scenarios import PLANS
from conntrack.states import TcpState
from conntrack.tracker import Tracker

FIN, SYN, RST, ACK = 1, 2, 4, 16
SMALL = 1000


class Packet(NamedTuple):
    """One frame as the test reads it."""

    ts_ns: int
    source: tuple[bytes, int]
    target: tuple[bytes, int]
    seq: int
    ack: int
    flags: int
    window: int
    payload: int
    wire: int
    ip_id: int
    ttl: int
    options: bytes
    frame: bytes

    @property
    def stamps(self) -> tuple[int, int] | None:
        """RFC 7323 TSval and TSecr."""
        place = self.options.find(b"\x08\x0a")
        return struct.unpack_from(">II", self.options, place + 2) if place >= 0 else None


def capture(scenario: str, **arguments: Any) -> tuple[bytes, dict[str, Any]]:
    out = io.BytesIO()
    truth = generate(out, scenario=scenario, **{"connections": SMALL, **arguments})
    return out.getvalue(), truth


def read(pcap: bytes) -> list[Packet]:
    magic, major, minor, _, _, snaplen, link = struct.unpack_from("<IHHiIII", pcap)
    assert (major, minor, link) == (2, 4, 1)
    unit = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}[magic]
    packets, at = [], 24
    while at < len(pcap):
        seconds, fraction, caplen, wire = struct.unpack_from("<IIII", pcap, at)
        frame = pcap[at + 16 : at + 16 + caplen]
        at += 16 + caplen
        assert caplen == min(wire, snaplen)
        if frame[12:14] == b"\x08\x00":
            ip_id, ttl, tcp = struct.unpack_from(">H", frame, 18)[0], frame[22], 34
            addresses, ip_payload = (frame[26:30], frame[30:34]), struct.unpack_from(">H", frame, 16)[0] - 20
        else:
            ip_id, ttl, tcp = 0, frame[21], 54
            addresses, ip_payload = (frame[22:38], frame[38:54]), struct.unpack_from(">H", frame, 18)[0]
        source, target, seq, ack, offset, flags, window = struct.unpack_from(">HHIIBBH", frame, tcp)
        header = offset >> 4 << 2
        packets.append(
            Packet(
                seconds * 10**9 + fraction * unit,
                (addresses[0], source),
                (addresses[1], target),
                seq,
                ack,
                flags,
                window,
                ip_payload - header,
                wire,
                ip_id,
                ttl,
                frame[tcp + 20 : tcp + header],
                frame,
            )
        )
    return packets


def conversations(packets: list[Packet]) -> list[list[Packet]]:
    """The packets by 4-tuple; a SYN with another number begins another conversation."""
    found: dict[Any, list[list[Packet]]] = defaultdict(list)
    for packet in packets:
        those = found[frozenset((packet.source, packet.target))]
        if not those or (packet.flags & (SYN | ACK) == SYN and packet.seq != those[-1][0].seq):
            those.append([])
        those[-1].append(packet)
    return [talk for those in found.values() for talk in those]


def ahead(a: int, b: int) -> int:
    """How far sequence number `a` is ahead of `b`."""
    return (a - b + 2**31) % 2**32 - 2**31


def repeats(talk: list[Packet]) -> Counter[str]:
    """Follow one conversation and return what was sent again, by kind; assert that all its numbers fit."""
    client = talk[0].source
    sent: dict[Any, int] = {}  # by sender: the number after the last it sent
    acked: dict[Any, int] = {}
    again: Counter[str] = Counter()
    assert talk[0].flags == SYN
    for packet in talk:
        length = packet.payload + bool(packet.flags & SYN) + bool(packet.flags & FIN)
        if packet.flags & RST and packet.source not in sent:
            assert (packet.seq, packet.ack) == (0, (talk[0].seq + 1) % 2**32)
            continue
        beyond = ahead(packet.seq, sent.setdefault(packet.source, packet.seq))
        if beyond < 0:
            assert beyond == -length, "only a whole segment, the last one, is ever sent again"
            kind = {SYN: "syn", SYN | ACK: "syn_ack"}.get(packet.flags & (SYN | ACK))
            again[kind or ("fin" if packet.flags & FIN else "data")] += 1
        else:
            assert beyond == 0, "nothing is ever missing"
            sent[packet.source] = (packet.seq + length) % 2**32
        if packet.flags & ACK:
            assert ahead(packet.ack, sent[packet.target]) <= 0, "acknowledges what was not sent"
            assert ahead(packet.ack, acked.get(packet.source, packet.ack)) >= 0, "acknowledges less than before"
            acked[packet.source] = packet.ack
        else:
            assert packet.ack == 0
        assert packet.flags & ACK or packet.flags in (SYN, RST)
        assert packet.source == client or packet.flags & ACK
    return again


def follow_clocks(talk: list[Packet]) -> None:
    """Assert that timestamps never go back, and that nobody echoes or acknowledges what cannot have reached it yet.

    The capture is taken beside the server, so the client has what was seen a round-trip time ago.
    """
    client = talk[0].source
    offers = [packet.ts_ns for packet in talk if packet.flags == SYN | ACK]
    answers = [packet.ts_ns for packet in talk if packet.source == client and packet.flags == ACK]
    rtt_ns = min(answers) - max(offers) if answers else 0
    newest: dict[Any, int] = {}
    arrived = [packet for packet in talk if packet.source != client]
    here, tsval_here, edge_here = 0, None, None  # what the client has
    for packet in talk:
        while here < len(arrived) and arrived[here].ts_ns <= packet.ts_ns - rtt_ns + 1000:
            end = arrived[here].seq + arrived[here].payload + bool(arrived[here].flags & (SYN | FIN))
            edge_here = end if edge_here is None or ahead(end, edge_here) > 0 else edge_here
            tsval_here = arrived[here].stamps[0] if arrived[here].stamps else tsval_here
            here += 1
        if packet.source == client and packet.flags & ACK:
            assert edge_here is not None
            assert ahead(packet.ack, edge_here) <= 0
        if not packet.stamps:
            continue
        tsval, tsecr = packet.stamps
        assert ahead(tsval, newest.get(packet.source, tsval)) >= 0
        newest[packet.source] = tsval
        if not packet.flags & ACK:
            assert tsecr == 0
        elif packet.source == client:
            assert tsval_here is not None
            assert ahead(tsecr, tsval_here) <= 0
        else:
            assert ahead(tsecr, newest[packet.target]) <= 0


def test_every_scenario_has_a_plan_and_a_description() -> None:
    assert list(SCENARIOS) == list(PLANS)
    assert all(SCENARIOS.values())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_conversations_are_tcp_and_the_truth_counts_them(scenario: str) -> None:
    pcap, truth = capture(scenario)
    packets = read(pcap)
    talks = conversations(packets)
    times = [packet.ts_ns for packet in packets]
    assert times == sorted(times)
    assert all(earlier.ts_ns < later.ts_ns for talk in talks for earlier, later in pairwise(talk))
    assert truth["packets"] == len(packets)
    assert (truth["first_ts_ns"], truth["last_ts_ns"]) == (times[0], times[-1])
    assert truth["connections"] == len(talks) == sum(truth["endings"].values())
    assert sum(truth["client_states"].values()) == sum(truth["server_states"].values()) == len(talks)
    assert set(truth["client_states"]) | set(truth["server_states"]) <= set(TcpState.__members__)
    again: Counter[str] = Counter()
    for talk in talks:
        again += repeats(talk)
        follow_clocks(talk)
    assert again == Counter(truth["retransmissions"])
    assert json.loads(json.dumps(truth)) == truth


def test_same_arguments_give_the_same_bytes() -> None:
    assert capture("mixed", seed=7) == capture("mixed", seed=7)
    assert capture("mixed", seed=7)[0] != capture("mixed", seed=8)[0]


@pytest.mark.parametrize("ip_version", [4, 6])
@pytest.mark.parametrize("scenario", ["mixed", "syn-flood"])
def test_segments_are_the_packets_of_the_file(scenario: str, ip_version: int) -> None:
    packets = read(capture(scenario, ip_version=ip_version, nanosecond=True)[0])
    rows = np.concatenate(list(segments(scenario=scenario, connections=SMALL, ip_version=ip_version, nanosecond=True)))
    assert rows.dtype == SEGMENT_DTYPE
    assert rows["frame"].tolist() == list(range(1, len(packets) + 1))
    prefix = b"" if ip_version == 6 else bytes(10) + b"\xff\xff"
    for row, packet in zip(rows, packets, strict=True):
        assert row["src_ip"].tobytes() == prefix + packet.source[0]
        assert row["dst_ip"].tobytes() == prefix + packet.target[0]
        assert (row["src_port"], row["dst_port"]) == (packet.source[1], packet.target[1])
        assert (row["ts_ns"], row["seq"], row["ack"]) == (packet.ts_ns, packet.seq, packet.ack)
        assert (row["flags"], row["window"], row["ip_id"]) == (packet.flags, packet.window, packet.ip_id)
        assert (row["payload_bytes"], row["wire_bytes"]) == (packet.payload, packet.wire)
        assert (row["ip_version"], row["ttl"]) == (ip_version, packet.ttl)
        options = packet.options
        assert (row["tsval"], row["tsecr"]) == (packet.stamps or (0, 0))
        assert row["mss"] == (1460 if options[:2] == b"\x02\x04" else 0)
        assert row["window_scale"] == (7 if options[-4:-1] == b"\x01\x03\x03" else 255)
        known = (HAS_TIMESTAMP if packet.stamps else 0) | (HAS_SACK_PERMITTED if b"\x04\x02" in options[4:6] else 0)
        assert row["options"] == known


@pytest.mark.parametrize("ip_version", [4, 6])
@pytest.mark.parametrize("nanosecond", [False, True])
@pytest.mark.parametrize("scenario", ["mixed", "port-scan"])
def test_reader_decodes_the_file_to_the_same_segments(
    tmp_path: Path, scenario: str, nanosecond: bool, ip_version: int
) -> None:
    path = tmp_path / "made.pcap"
    arguments: dict[str, Any] = {
        "scenario": scenario,
        "connections": SMALL,
        "nanosecond": nanosecond,
        "ip_version": ip_version,
    }
    with path.open("wb") as out:
        generate(out, **arguments)
    with open_capture([path]) as reader:
        decoded = np.concatenate([batch.copy() for batch in reader])
    made = np.concatenate(list(segments(**arguments)))
    for name in SEGMENT_DTYPE.names:
        np.testing.assert_array_equal(decoded[name], made[name], err_msg=name)


@pytest.mark.parametrize("ip_version", [4, 6])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_tracker_ends_where_the_truth_says(scenario: str, ip_version: int) -> None:
    arguments: dict[str, Any] = {"scenario": scenario, "connections": SMALL, "ip_version": ip_version}
    truth = generate(io.BytesIO(), **arguments)
    tracker = Tracker(validate=True)
    for batch in segments(**arguments):
        tracker.process(batch)
    flows = np.concatenate(list(tracker.finish()))
    assert len(flows) == truth["connections"]
    for side in ("client", "server"):
        states, counts = np.unique(flows[f"{side}_state"], return_counts=True)
        found = {TcpState(state).name: int(count) for state, count in zip(states, counts, strict=True)}
        assert found == truth[f"{side}_states"]
    again = flows["client_retransmits"].sum() + flows["server_retransmits"].sum()
    assert again == sum(truth["retransmissions"].values())
    assert tracker.invalid() == {}


@pytest.mark.parametrize("ip_version", [4, 6])
def test_checksums_are_valid(ip_version: int) -> None:
    def total(octets: bytes) -> int:
        words = struct.unpack(f">{len(octets) // 2}H", octets)
        folded = sum(words)
        while folded >> 16:
            folded = (folded & 0xFFFF) + (folded >> 16)
        return folded

    for packet in read(capture("mixed", ip_version=ip_version, snaplen=2000)[0])[:3000]:
        tcp = 34 if ip_version == 4 else 54
        assert ip_version == 6 or total(packet.frame[14:34]) == 0xFFFF
        segment = packet.frame[tcp:]
        pseudo = packet.source[0] + packet.target[0] + struct.pack(">HH", 6, len(segment))
        assert total(pseudo + segment + bytes(len(segment) % 2)) == 0xFFFF


@pytest.mark.parametrize("snaplen", [54, 60, 96, 65_535])
def test_snaplen_cuts_frames_and_nothing_else(snaplen: int) -> None:
    whole = read(capture("mixed", snaplen=262_144)[0])
    cut = read(capture("mixed", snaplen=snaplen)[0])
    assert [packet.frame for packet in cut] == [packet.frame[:snaplen] for packet in whole]
    assert [packet.ts_ns for packet in cut] == [packet.ts_ns for packet in whole]


def test_microseconds_are_the_nanoseconds_cut_short() -> None:
    fine = Counter(packet.ts_ns // 1000 for packet in read(capture("mixed", nanosecond=True)[0]))
    assert fine == Counter(packet.ts_ns // 1000 for packet in read(capture("mixed")[0]))


def test_findings_name_the_subject_as_a_report_does() -> None:
    kinds = {name: [f["kind"] for f in capture(name)[1]["findings"]] for name in SCENARIOS}
    assert kinds == {
        "mixed": ["close_wait_leak", "connection_refused"],
        "healthy": [],
        "syn-flood": ["syn_flood"],
        "slow-syn-flood": ["syn_flood"],
        "close-wait-leak": ["close_wait_leak"],
        "time-wait-client": ["time_wait_buildup"],
        "flash-crowd": [],
        "port-scan": ["port_scan"],
        "server-down": ["unanswered_syn"],
    }
    assert capture("syn-flood")[1]["findings"][0]["subject"] == "198.51.100.1:443"
    assert capture("time-wait-client")[1]["findings"][0]["subject"] == "10.0.0.2"
    subject = capture("syn-flood", ip_version=6)[1]["findings"][0]["subject"]
    address, port = subject.rsplit(":", 1)
    assert (IPv6Address(address.strip("[]")), port) == (IPv6Address("2001:db8::c633:6401"), "443")


def test_leak_is_over_a_minute_old_when_the_capture_ends() -> None:
    pcap, truth = capture("close-wait-leak")
    fins = [
        packet.ts_ns
        for talk in conversations(read(pcap))
        for packet in talk
        if packet.flags & FIN and sum(other.flags & FIN for other in talk) == 1
    ]
    assert len(fins) == truth["endings"]["close_wait"] == truth["server_states"]["CLOSE_WAIT"]
    assert truth["last_ts_ns"] - max(fins) > 60 * 10**9


def test_time_wait_client_uses_most_of_its_ports_and_rests_each() -> None:
    arguments: dict[str, Any] = {"scenario": "time-wait-client", "connections": 30_000}
    truth = generate(io.BytesIO(), **arguments)
    rows = np.concatenate(list(segments(**arguments)))
    assert truth["client_states"]["TIME_WAIT"] > 0.8 * 28_232
    client = np.where(rows["dst_port"] == 8080, rows["src_port"], rows["dst_port"])
    order = np.argsort(client, kind="stable")
    same_port = client[order][1:] == client[order][:-1]
    begins = rows["flags"][order][1:] == SYN
    gaps = np.diff(rows["ts_ns"][order])[same_port & begins]
    assert len(gaps) == 30_000 - 28_232
    assert gaps.min() > 60 * 10**9


def test_slow_flood_holds_more_than_a_small_backlog_at_once() -> None:
    talks = conversations(read(capture("slow-syn-flood")[0]))
    begins = sorted(talk[0].ts_ns for talk in talks if not any(packet.flags == ACK for packet in talk))
    assert len(begins) == 600
    held = max(sum(now - 63 * 10**9 < begin <= now for begin in begins) for now in begins)
    assert 128 < held < 256


def test_flash_crowd_completes_every_handshake() -> None:
    talks = conversations(read(capture("flash-crowd")[0]))
    starts = np.sort([talk[0].ts_ns for talk in talks])
    within_a_second = np.searchsorted(starts, starts + 10**9) - np.arange(len(starts))
    assert within_a_second.max() > 0.9 * len(talks)
    assert all(any(packet.flags & FIN for packet in talk) for talk in talks)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scenario": "nothing"},
        {"connections": 0},
        {"connections": 10**9},
        {"seed": -1},
        {"snaplen": 53},
        {"snaplen": 262_145},
        {"ip_version": 5},
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(arguments: dict[str, Any]) -> None:
    out = io.BytesIO()
    with pytest.raises(ValueError, match=str(next(iter(arguments.values())))):
        generate(out, **arguments)
    assert not out.getvalue()


def test_segments_refuse_wrong_arguments_before_the_first_batch() -> None:
    with pytest.raises(ValueError, match="ip_version"):
        segments(ip_version=5)
