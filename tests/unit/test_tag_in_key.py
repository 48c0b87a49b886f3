"""The same addresses and ports on two networks, as two connections: --tag-in-key in every command, and from Python."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frames import ACK, FIN, RST, SYN, eth_ipv4_tcp, eth_ipv6_tcp, write_pcap
from tracked import sorted_bytes

from conntrack import analyze, cluster, track
from conntrack.cli import main
from conntrack.cluster.checkpoint import open_checkpoint
from conntrack.explain import networks

Captured = pytest.CaptureFixture[str]

T0 = 1_700_000_000_000_000_000
DOT1Q = 0x8100
VLANS = (7, 9)
PORTS = range(40_000, 40_012)
MADE_BY = {4: eth_ipv4_tcp, 6: eth_ipv6_tcp}


def conversation(port: int, vlans: tuple[int, int], *, ends: str, version: int = 4) -> list[bytes]:
    """A handshake, a request, its answer; the client's segments on the first VLAN, the server's on the second.

    `ends` says how it ends: "closed", "close_wait" (the server never closes), "reset".
    """
    make = MADE_BY[version]
    client, server = ("10.0.0.1", "10.0.0.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
    iss = 1_000 * (vlans[0] + port)

    def c(flags: int, seq: int, ack: int = 0, payload: bytes = b"") -> bytes:
        where = (client, port, server, 80, flags)
        return make(*where, seq=iss + seq, ack=ack and iss + 500_000 + ack, payload=payload, vlans=[(DOT1Q, vlans[0])])

    def s(flags: int, seq: int, ack: int, payload: bytes = b"") -> bytes:
        where = (server, 80, client, port, flags)
        return make(*where, seq=iss + 500_000 + seq, ack=iss + ack, payload=payload, vlans=[(DOT1Q, vlans[1])])

    frames = [c(SYN, 0), s(SYN | ACK, 0, 1), c(ACK, 1, 1), c(ACK, 1, 1, b"x" * 100), s(ACK, 1, 101, b"y" * 300)]
    if ends == "reset":
        return [*frames, c(RST, 101)]
    frames += [c(FIN | ACK, 101, 301), s(ACK, 301, 102)]
    return frames if ends == "close_wait" else [*frames, s(FIN | ACK, 301, 102), c(ACK, 102, 302)]


def interleaved(conversations: list[list[bytes]], seed: int) -> list[tuple[int, bytes]]:
    """All of them at the same time, each in its order, a millisecond apart."""
    chance = random.Random(seed)
    left = [list(reversed(frames)) for frames in conversations]
    packets: list[tuple[int, bytes]] = []
    while any(left):
        packets.append((T0 + len(packets) * 1_000_000, chance.choice([each for each in left if each]).pop()))
    return packets


@pytest.fixture
def two_networks(tmp_path: Path) -> str:
    """The same 4-tuples on VLANs 7 and 9 at the same time; those on 9 hang in CLOSE_WAIT."""
    conversations = [
        conversation(port, (vlan, vlan), ends="closed" if vlan == 7 else "close_wait", version=4 + 2 * (port % 2))
        for port in PORTS
        for vlan in VLANS
    ]
    return str(write_pcap(tmp_path / "two.pcap", interleaved(conversations, 1)))


def flows(capture: str, *options: str, capfd: Captured) -> list[dict[str, Any]]:
    assert main(["flows", capture, "--format", "ndjson", *options]) == 0
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_each_network_has_its_own_connections(two_networks: str, capfd: Captured) -> None:
    rows = flows(two_networks, "--tag-in-key", capfd=capfd)
    assert sorted((row["client_port"], row["tag"], row["server_state"], row["client_packets"]) for row in rows) == [
        (port, vlan, *(("CLOSED", 5) if vlan == 7 else ("CLOSE_WAIT", 4))) for port in PORTS for vlan in VLANS
    ]
    assert {row["path"] for row in rows} == {"eth/vlan 7", "eth/vlan 9"}
    assert {row["generation"] for row in rows} == {1}
    assert len({row["flow_id"] for row in rows}) == 2 * len(PORTS)
    # Without, each 4-tuple is one connection at a time, in which two are mixed up.
    assert len({(row["client_ip"], row["client_port"]) for row in flows(two_networks, capfd=capfd)}) == len(PORTS)


def test_each_is_what_it_is_alone(two_networks: str, capfd: Captured) -> None:
    mixed = flows(two_networks, "--tag-in-key", capfd=capfd)
    for vlan in VLANS:
        alone = flows(two_networks, "--filter", f"vlan {vlan}", capfd=capfd)
        chosen = [row for row in mixed if row["tag"] == vlan]
        assert sorted(chosen, key=lambda row: row["flow_id"]) == sorted(alone, key=lambda row: row["flow_id"])


@pytest.mark.parametrize(
    "options",
    [["--threads", "1"], ["--threads", "2"], ["--threads", "3"], ["--spill"], ["--workers", "2"], ["--checkpoint"]],
    ids=" ".join,
)
def test_the_same_rows_however_it_is_done(
    options: list[str], two_networks: str, tmp_path: Path, capfd: Captured
) -> None:
    wanted = flows(two_networks, "--tag-in-key", capfd=capfd)
    if options == ["--spill"]:
        options = [*options, str(tmp_path)]
    if options == ["--checkpoint"]:
        options = [*options, str(tmp_path / "kept")]
    got = flows(two_networks, "--tag-in-key", *options, capfd=capfd)
    assert sorted(got, key=lambda row: row["flow_id"]) == sorted(wanted, key=lambda row: row["flow_id"])
    assert len(got) == 2 * len(PORTS)


def test_from_python(two_networks: str) -> None:
    expected = sorted_bytes(track(two_networks, threads=1, tag_in_key=True))
    assert sorted_bytes(track(two_networks, threads=3, tag_in_key=True)) == expected
    assert sorted_bytes(cluster.track(two_networks, workers=1, tag_in_key=True)) == expected
    report = analyze(two_networks, tag_in_key=True)
    assert report.flows is not None and sorted_bytes([report.flows]) == expected
    assert cluster.analyze(two_networks, workers=1, tag_in_key=True).connections == report.connections
    assert report.connections.server_states["CLOSE_WAIT"] == len(PORTS)
    assert analyze(two_networks, keep_flows=False, tag_in_key=True).connections == report.connections
    assert analyze(two_networks).connections != report.connections


def test_a_checkpoint_is_of_one_kind(two_networks: str, tmp_path: Path, capfd: Captured) -> None:
    """One that was begun without the option does not go on with it."""
    path = str(tmp_path / "kept")
    with open_checkpoint(path, {"profile": "linux"}, np.zeros(4, np.uint64), 4, 1 << 20) as checkpoint:
        checkpoint.save()
        assert main(["flows", two_networks, "--tag-in-key", "--checkpoint", path]) == 2
    assert "was begun with other options" in capfd.readouterr().err


def test_report(two_networks: str, capfd: Captured) -> None:
    assert main(["report", two_networks, "--format", "json", "--tag-in-key"]) == 0
    connections = json.loads(capfd.readouterr().out)["connections"]
    assert connections["total"] == 2 * len(PORTS)
    assert connections["server_states"]["CLOSE_WAIT"] == len(PORTS)


def test_ladders_of_the_page(tmp_path: Path, capfd: Captured) -> None:
    """Connections behind a finding are told from their own network alone."""
    conversations = [
        conversation(port, (vlan, vlan), ends="reset" if vlan == 7 else "close_wait")
        for port in range(41_000, 41_060)
        for vlan in VLANS
    ]
    packets = interleaved(conversations, 2)
    packets.append((T0 + 600 * 10**9, eth_ipv4_tcp("10.3.0.1", 5, "10.3.0.2", 6, ACK)))
    path = write_pcap(tmp_path / "many.pcap", packets)
    report = analyze(path, ladders=True, tag_in_key=True)
    assert report.flows is not None and report.stories
    told = {int(row["flow_id"]): row for row in report.flows}
    for story in report.stories:
        assert story.row is not None
        assert story.row[0].tobytes() == told[story.flow_id].tobytes()
        assert int(story.row["tag"][0]) == 9
        assert [len(story.steps), story.left_out] == [7, 0]


def test_sockets(two_networks: str, capfd: Captured) -> None:
    assert main(["sockets", two_networks, "--format", "ndjson", "--host", "10.0.0.2", "--tag-in-key"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [row["state"] for row in rows] == ["CLOSE_WAIT"] * (len(PORTS) // 2)


def test_explain_one(two_networks: str, capfd: Captured) -> None:
    rows = flows(two_networks, "--tag-in-key", capfd=capfd)
    for row in rows[:6]:
        assert main(["explain", two_networks, "--flow", str(row["flow_id"]), "--tag-in-key", "--format", "json"]) == 0
        (told,) = json.loads(capfd.readouterr().out)["connections"]
        assert told["connection"]["tag"] == row["tag"]
        assert len(told["steps"]) == row["client_packets"] + row["server_packets"]
        assert told["connection"]["server_state"] == row["server_state"]


def test_an_id_that_was_listed_with_the_tag_names_the_option(two_networks: str, capfd: Captured) -> None:
    """Where the tag is no part of the key, the second network's connection begins nowhere."""
    alone = {row["flow_id"] for row in flows(two_networks, capfd=capfd)}
    listed = {row["flow_id"] for row in flows(two_networks, "--tag-in-key", capfd=capfd)}
    flow_id = min(listed - alone)
    assert main(["explain", two_networks, "--flow", str(flow_id)]) == 2
    said = capfd.readouterr().err
    assert said.endswith(f", or --flow {flow_id} --tag-in-key if it was listed with that\n")
    assert said.count("\n") == 1


def test_explain_all_between_two_endpoints(two_networks: str, capfd: Captured) -> None:
    ends = ["10.0.0.1:40000", "10.0.0.2:80"]
    assert main(["explain", two_networks, "--between", *ends, "--tag-in-key"]) == 0
    text = capfd.readouterr().out
    assert text.count("Connection ") == 2
    assert "tag    7, " in text and "tag    9, " in text
    assert "server: CLOSE_WAIT since" in text


def test_explain_tells_no_more_networks_than_it_can(
    two_networks: str, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.setattr(networks, "MOST_NETWORKS", 1)
    assert main(["explain", two_networks, "--between", "10.0.0.1:40000", "10.0.0.2:80", "--tag-in-key"]) == 0
    done = capfd.readouterr()
    assert done.out.count("Connection ") == 1
    assert done.err == "ctrack: --between: on more than 1 network; only the first of them are told\n"


def test_live(two_networks: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Captured) -> None:
    with Path(two_networks).open("rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        kept = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            out = tmp_path / "report.json"
            assert main(["live", "-", "--tag-in-key", "-o", str(out)]) == 0
        finally:
            os.dup2(kept, 0)
            os.close(kept)
    assert json.loads(out.read_text())["connections"]["total"] == 2 * len(PORTS)


def test_a_vlan_for_each_direction(tmp_path: Path, capfd: Captured) -> None:
    """What the option is not for: each direction becomes a connection of its own, seen from one side."""
    frames = conversation(40_000, VLANS, ends="closed")
    path = str(write_pcap(tmp_path / "d.pcap", [(T0 + i * 1_000_000, frame) for i, frame in enumerate(frames)]))
    (row,) = flows(path, capfd=capfd)
    assert (row["tag"], row["client_packets"], row["server_packets"]) == (7, 5, 4)
    rows = flows(path, "--tag-in-key", capfd=capfd)
    assert [(row["tag"], row["client_packets"], row["server_packets"]) for row in rows] == [(7, 5, 0), (9, 0, 4)]
    assert all("one_sided" in row["flags"] for row in rows)


def test_sockets_of_this_host_have_no_tag(capfd: Captured) -> None:
    assert main(["sockets", "--tag-in-key"]) == 2
    assert "--tag-in-key is of captures" in capfd.readouterr().err
