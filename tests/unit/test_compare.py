"""conntrack.compare: the forms of snapshots, which row is which connection, and the reason of each disagreement."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frames import ACK, FIN, RST, SYN, eth_ipv4_tcp, write_pcap
from hypothesis import given, settings
from hypothesis import strategies as st
from reported import meet_the_schema

import conntrack
from conntrack.addresses import parse_ip
from conntrack.cli import main
from conntrack.compare import Comparison, Snapshot, compare, read_snapshot
from conntrack.compare.model import Endpoint
from conntrack.compare.netfilter import take_netfilter
from conntrack.compare.socket_lines import take_socket_line
from conntrack.compare.ss import take_ss
from conntrack.errors import InputError
from conntrack.states import TcpState

BEGIN_S = 1_763_726_400
S = 10**9
CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
C, D = True, False
"""Who sends: the client, or the server."""


class Wire:
    """A capture made segment by segment: who sends, which flags, how much payload; numbers follow by themselves."""

    def __init__(self, client: tuple[str, int] = CLIENT, server: tuple[str, int] = SERVER) -> None:
        self.packets: list[tuple[int, bytes]] = []
        self.now_ns = BEGIN_S * S
        self._ends = {C: client, D: server}
        self._next = {C: 1000, D: 5000}

    def send(self, who: bool, flags: int, payload: bytes = b"", *, again: bool = False, wait_s: float = 0.01) -> Wire:
        self.now_ns += round(wait_s * S)
        size = len(payload) + bool(flags & (SYN | FIN))
        if again:
            self._next[who] -= size
        ends = self._ends[who], self._ends[not who]
        ack = self._next[not who] if flags & ACK else 0
        frame = eth_ipv4_tcp(*ends[0], *ends[1], flags=flags, seq=self._next[who], ack=ack, payload=payload)
        self.packets.append((self.now_ns, frame))
        self._next[who] += size
        return self

    def open(self) -> Wire:
        return self.send(C, SYN).send(D, SYN | ACK).send(C, ACK)

    def close(self, who: bool = C, upto: int = 4) -> Wire:
        steps = ((who, FIN | ACK), (not who, ACK), (not who, FIN | ACK), (who, ACK))
        for step in steps[:upto]:
            self.send(*step)
        return self


def compared(
    path: Path,
    packets: Iterable[tuple[int, bytes]],
    snapshot: Snapshot,
    *,
    at_s: float | None = None,
    host: str | None = None,
) -> Comparison:
    rows = [batch.copy() for batch in conntrack.read_segments(write_pcap(path / "a.pcap", list(packets)))]
    end_ns = int(np.concatenate(rows)["ts_ns"].max())
    at = None if at_s is None else lambda: BEGIN_S * S + round(at_s * S)
    return compare(rows, conntrack.Tracker(), snapshot, at=at, end=lambda: end_ns, host=host)


def ss(*lines: str) -> Snapshot:
    snapshot = Snapshot("ss.txt", "ss")
    for line in lines:
        take_ss(line, snapshot)
    return snapshot


def row_of(state: str, local: str = "10.0.0.2:80", remote: str = "10.0.0.1:40000") -> str:
    return f"{state} 0 0 {local} {remote}"


def only(comparison: Comparison) -> tuple[str | None, str | None, str]:
    (row,) = comparison.disagreements
    assert row.explanation.endswith(".")
    return row.wire, row.kernel, row.reason


class TestReasons:
    """Each by the segments that lead to it. The snapshot is the server's unless it says otherwise."""

    @pytest.mark.parametrize(
        ("wire", "kernel"),
        [
            (Wire().open(), "ESTAB"),
            (Wire().open().close(C, 2), "CLOSE-WAIT"),
            (Wire().open().close(C, 3), "LAST-ACK"),
            (Wire().open().close(D, 1), "FIN-WAIT-1"),
            (Wire().open().close(D, 2), "FIN-WAIT-2"),
            (Wire().open().close(D, 4), "TIME-WAIT"),
            (Wire().send(C, SYN).send(D, SYN | ACK), "SYN-RECV"),
        ],
    )
    def test_agreement(self, wire: Wire, kernel: str, tmp_path: Path) -> None:
        found = compared(tmp_path, wire.packets, ss(row_of(kernel)))
        assert (found.agreed, found.hosts, found.at_ns, *found.disagreements) == (1, ("10.0.0.2",), wire.now_ns)
        itself = Wire(("127.0.0.1", 1), ("127.0.0.1", 80)).open()  # when nothing else is there
        assert compared(tmp_path, itself.packets, ss(row_of("ESTAB", "127.0.0.1:80", "127.0.0.1:1"))).agreed == 1

    @pytest.mark.parametrize(
        ("wire", "kernel", "expected"),
        [
            (Wire().open(), "CLOSE-WAIT", ("ESTABLISHED", "CLOSE_WAIT", "lost_segments")),
            (Wire().open(), "FIN-WAIT-2", ("ESTABLISHED", "FIN_WAIT_2", "lost_segments")),
            (Wire().open().close(D, 1), "FIN-WAIT-2", ("FIN_WAIT_1", "FIN_WAIT_2", "lost_segments")),
            (Wire().send(C, SYN).send(D, SYN | ACK), "ESTAB", ("SYN_RECEIVED", "ESTABLISHED", "lost_segments")),
            (Wire().open().send(C, ACK, b"x"), "CLOSE-WAIT", ("ESTABLISHED", "CLOSE_WAIT", "lost_segments")),
            (Wire().open().close(C, 2), "ESTAB", ("CLOSE_WAIT", "ESTABLISHED", "not_arrived")),
            (Wire().open().close(D, 2), "FIN-WAIT-1", ("FIN_WAIT_2", "FIN_WAIT_1", "not_arrived")),
            (Wire().open(), "SYN-RECV", ("ESTABLISHED", "SYN_RECEIVED", "not_arrived")),
            (Wire().open().close(D, 1), "ESTAB", ("FIN_WAIT_1", "ESTABLISHED", "sent_by_another")),
            (Wire().open().close(C, 3), "CLOSE-WAIT", ("LAST_ACK", "CLOSE_WAIT", "sent_by_another")),
            (Wire().open().send(C, RST | ACK), "ESTAB", ("CLOSED", "ESTABLISHED", "not_arrived")),
            (Wire().open().close(C, 4), "LAST-ACK", ("CLOSED", "LAST_ACK", "not_arrived")),
            (Wire().open().close(C, 4), "ESTAB", ("CLOSED", "ESTABLISHED", "not_arrived")),
            (Wire().open().close(C, 4), "CLOSE-WAIT", ("CLOSED", "CLOSE_WAIT", "sent_by_another")),
        ],
    )  # fmt: skip
    def test_in_another_state(self, wire: Wire, kernel: str, expected: tuple[str, str, str], tmp_path: Path) -> None:
        assert only(compared(tmp_path, wire.packets, ss(row_of(kernel)))) == expected

    def test_a_full_accept_queue(self, tmp_path: Path) -> None:
        """The server repeats its SYN+ACK after the client's ACK; then the client sends data, which proves nothing."""
        wire = Wire().open().send(D, SYN | ACK, again=True, wait_s=1.1).send(C, ACK, b"x").send(D, ACK)
        comparison = compared(tmp_path, wire.packets, ss(row_of("SYN-RECV")))
        assert only(comparison) == ("ESTABLISHED", "SYN_RECEIVED", "accept_queue")

    def test_a_syn_onto_a_stale_close_wait(self, tmp_path: Path) -> None:
        """The client is gone and comes back on the same port; the server answers with an ACK of the old numbers."""
        wire = Wire().open().close(C, 2)
        again = eth_ipv4_tcp(*CLIENT, *SERVER, flags=SYN, seq=900_000, ack=0)
        packets = [*wire.packets, (wire.now_ns + 200 * S, again)]
        client = ss(row_of("SYN-SENT", "10.0.0.1:40000", "10.0.0.2:80"))
        assert only(compared(tmp_path, packets, client))[1:] == ("SYN_SENT", "stale_close_wait")
        fresh = Wire().send(C, SYN)
        comparison = compared(tmp_path, fresh.packets, ss(row_of("CLOSE-WAIT")))
        assert only(comparison)[1:] == ("CLOSE_WAIT", "stale_close_wait")

    @pytest.mark.parametrize(
        ("wire", "at_s", "expected"),
        [
            (Wire().send(C, SYN).send(D, SYN | ACK), None, ("SYN_RECEIVED", None, "syn_cookies")),
            (Wire().open().close(D, 4), None, ("TIME_WAIT", None, "timer")),
            (Wire().open(), None, ("ESTABLISHED", None, "lost_segments")),
            (Wire().open(), 5.0, ("ESTABLISHED", None, "snapshot_later")),
            (Wire().open().close(C, 2), None, ("CLOSE_WAIT", None, "lost_segments")),
            (
                Wire().open().close(C, 3).send(D, FIN | ACK, again=True, wait_s=1),
                None,
                ("LAST_ACK", None, "peer_vanished"),
            ),
            (
                Wire().open().send(D, ACK, b"x").send(D, ACK, b"x", again=True, wait_s=0.3)
                .send(D, ACK, b"x", again=True, wait_s=0.6).send(D, ACK, b"x", again=True, wait_s=1.2),
                None,
                ("ESTABLISHED", None, "peer_vanished"),
            ),
        ],
    )  # fmt: skip
    def test_only_on_the_wire(
        self, wire: Wire, at_s: float | None, expected: tuple[str, None, str], tmp_path: Path
    ) -> None:
        comparison = compared(tmp_path, wire.packets, ss("LISTEN 0 128 10.0.0.2:80 0.0.0.0:*"), at_s=at_s)
        assert only(comparison) == expected

    def test_a_connection_that_is_older_than_the_capture(self, tmp_path: Path) -> None:
        wire = Wire().send(C, ACK, b"x").send(D, ACK, b"y")
        comparison = compared(tmp_path, wire.packets, ss(row_of("CLOSE-WAIT")))
        assert only(comparison) == ("ESTABLISHED", "CLOSE_WAIT", "began_before")

    def test_a_client_that_gave_up(self, tmp_path: Path) -> None:
        comparison = compared(tmp_path, Wire().send(C, SYN).packets, ss("LISTEN 0 1 10.0.0.1:22 0.0.0.0:*"))
        assert only(comparison) == ("SYN_SENT", None, "given_up")

    def test_an_orphan_that_the_kernel_forgot(self, tmp_path: Path) -> None:
        """Other segments go on: the capture has not ended when the snapshot is taken."""
        late = Wire(("10.0.0.9", 9), ("10.0.0.8", 8)).send(C, SYN, wait_s=100)
        packets = Wire().open().close(D, 2).packets + late.packets
        comparison = compared(tmp_path, packets, ss("LISTEN 0 128 10.0.0.2:80 0.0.0.0:*"))
        assert only(comparison) == ("FIN_WAIT_2", None, "timer")

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (row_of("ESTAB", remote="10.0.0.7:1"), "not_captured"),
            (row_of("SYN-SENT", remote="10.0.0.7:1"), "not_captured"),
            (row_of("ESTAB", local="127.0.0.1:80", remote="127.0.0.1:1"), "not_captured"),
        ],
    )
    def test_only_in_the_kernel(self, line: str, reason: str, tmp_path: Path) -> None:
        comparison = compared(tmp_path, Wire().open().packets, ss(line, row_of("ESTAB")))
        assert comparison.agreed == 1
        wire, kernel, told = only(comparison)
        assert (wire, told) == (None, reason) and kernel is not None

    def test_translated_addresses(self, tmp_path: Path) -> None:
        """The kernel's end has a private address; the other has the client's. Ports tell them."""
        snapshot = ss(row_of("ESTAB", local="192.168.0.5:80"))
        assert only(compared(tmp_path, Wire().open().packets, snapshot)) == ("ESTABLISHED", "ESTABLISHED", "nat")
        snapshot = ss(row_of("ESTAB", remote="203.0.113.9:40000"))
        assert only(compared(tmp_path, Wire().open().packets, snapshot)) == ("ESTABLISHED", "ESTABLISHED", "nat")

    def test_two_that_could_be_it_are_none(self, tmp_path: Path) -> None:
        packets = Wire().open().packets + Wire(CLIENT, ("10.0.0.3", 80)).open().packets
        snapshot = ss(row_of("ESTAB", local="192.168.0.5:80"))
        assert only(compared(tmp_path, packets, snapshot)) == (None, "ESTABLISHED", "not_captured")

    def test_a_snapshot_that_is_later(self, tmp_path: Path) -> None:
        comparison = compared(tmp_path, Wire().open().packets, ss(row_of("CLOSE-WAIT")), at_s=60)
        assert only(comparison) == ("ESTABLISHED", "CLOSE_WAIT", "snapshot_later")

    def test_only_what_came_before_the_instant_counts(self, tmp_path: Path) -> None:
        wire = Wire().open().send(C, FIN | ACK, wait_s=10).send(D, ACK)
        assert compared(tmp_path, wire.packets, ss(row_of("ESTAB")), at_s=5).agreed == 1
        assert compared(tmp_path, wire.packets, ss(row_of("CLOSE-WAIT"))).agreed == 1

    def test_the_last_connection_on_a_4_tuple_counts(self, tmp_path: Path) -> None:
        first, second = Wire().open().close(C, 4), Wire().open()
        packets = first.packets + [(ns + 120 * S, frame) for ns, frame in second.packets]
        assert compared(tmp_path, packets, ss(row_of("ESTAB"))).agreed == 1

    def test_one_host_of_several(self, tmp_path: Path) -> None:
        packets = Wire().open().packets + Wire(CLIENT, ("10.0.0.3", 80)).open().packets
        snapshot = ss(row_of("ESTAB"), row_of("TIME-WAIT", local="10.0.0.3:80"))
        assert compared(tmp_path, packets, snapshot, host="10.0.0.2").disagreements == ()
        assert len(compared(tmp_path, packets, snapshot).disagreements) == 1


def nf(*lines: str) -> Snapshot:
    snapshot = Snapshot("nf.txt", "conntrack")
    for line in lines:
        take_netfilter(line, snapshot)
    return snapshot


def entry(
    state: str, *, flags: str = "[ASSURED]", reply: str = "src=10.0.0.2 dst=10.0.0.1 sport=80 dport=40000"
) -> str:
    between = "[UNREPLIED] " if flags == "[UNREPLIED]" else ""
    after = "" if between else flags
    return f"tcp      6 99 {state} src=10.0.0.1 dst=10.0.0.2 sport=40000 dport=80 {between}{reply} {after} mark=0 use=1"


class TestFirewall:
    @pytest.mark.parametrize(
        ("wire", "state"),
        [
            (Wire().send(C, SYN), "SYN_SENT"),
            (Wire().send(C, SYN).send(D, SYN | ACK), "SYN_RECV"),
            (Wire().open(), "ESTABLISHED"),
            (Wire().open().close(C, 1), "FIN_WAIT"),
            (Wire().open().close(C, 2), "CLOSE_WAIT"),
            (Wire().open().close(C, 3), "LAST_ACK"),
            (Wire().open().close(C, 4), "TIME_WAIT"),
            (Wire().open().close(D, 2), "CLOSE_WAIT"),
            (Wire().open().send(D, RST), "CLOSE"),
        ],
    )
    def test_agreement(self, wire: Wire, state: str, tmp_path: Path) -> None:
        comparison = compared(tmp_path, wire.packets, nf(entry(state)))
        assert (comparison.agreed, comparison.disagreements) == (1, ())

    @pytest.mark.parametrize(
        ("wire", "line", "expected"),
        [
            (
                Wire().open(),
                entry("SYN_SENT", flags="[UNREPLIED]"),
                ("ESTABLISHED/ESTABLISHED", "SYN_SENT", "one_sided"),
            ),
            (Wire().open(), entry("CLOSE_WAIT"), ("ESTABLISHED/ESTABLISHED", "CLOSE_WAIT", "lost_segments")),
            (Wire().open().send(D, RST), entry("ESTABLISHED"), ("CLOSED/CLOSED", "ESTABLISHED", "not_arrived")),
            (Wire().open().close(C, 2), entry("ESTABLISHED"), ("FIN_WAIT_2/CLOSE_WAIT", "ESTABLISHED", "not_arrived")),
        ],
    )  # fmt: skip
    def test_in_another_state(self, wire: Wire, line: str, expected: tuple[str, str, str], tmp_path: Path) -> None:
        assert only(compared(tmp_path, wire.packets, nf(line))) == expected

    def test_a_translated_entry_is_known_by_either_tuple(self, tmp_path: Path) -> None:
        line = entry("ESTABLISHED", reply="src=192.168.0.5 dst=10.0.0.254 sport=8080 dport=61000")
        outside = Wire().open()
        inside = Wire(("10.0.0.254", 61000), ("192.168.0.5", 8080)).open()
        assert compared(tmp_path, outside.packets, nf(line)).agreed == 1
        assert compared(tmp_path, inside.packets, nf(line)).agreed == 1
        assert compared(tmp_path, outside.packets + inside.packets, nf(line)).disagreements == ()

    def test_a_connection_that_the_firewall_forgot(self, tmp_path: Path) -> None:
        other = entry("ESTABLISHED").replace("40000", "5")
        late = Wire(("10.0.0.1", 5), SERVER).open()
        packets = Wire().open().close(C, 2).packets + [(ns + 90 * S, frame) for ns, frame in late.packets]
        (row,) = compared(tmp_path, packets, nf(other)).disagreements
        assert (row.wire, row.kernel, row.reason) == ("FIN_WAIT_2/CLOSE_WAIT", None, "firewall_forgot")
        assert "nf_conntrack_tcp_timeout_close_wait" in row.explanation

    def test_a_connection_that_it_never_had(self, tmp_path: Path) -> None:
        packets = Wire().open().packets + Wire(("10.0.0.1", 5), SERVER).open().packets
        comparison = compared(tmp_path, packets, nf(entry("ESTABLISHED")))
        assert only(comparison) == ("ESTABLISHED/ESTABLISHED", None, "firewall_dropped")
        assert compared(tmp_path, packets, nf(entry("ESTABLISHED")), host="10.9.9.9").disagreements == ()

    def test_an_entry_without_a_segment(self, tmp_path: Path) -> None:
        lines = entry("ESTABLISHED"), entry("ESTABLISHED").replace("40000", "7")
        assert only(compared(tmp_path, Wire().open().packets, nf(*lines))) == (None, "ESTABLISHED", "not_captured")


SS = """\
Netid State      Recv-Q Send-Q Local Address:Port  Peer Address:Port Process
udp   UNCONN     0      0            0.0.0.0:68         0.0.0.0:*
tcp   LISTEN     0      128                *:22               *:*     users:(("sshd",pid=1,fd=3))
tcp   ESTAB      3      0   [::ffff:10.0.0.2]:80 [::ffff:10.0.0.1]:40000 users:(("a b",pid=2,fd=4)) timer:(on,9min,0)
\t cubic wscale:7,7 rto:204 rtt:0.1/0.05 mss:1448
tcp   TIME-WAIT  0      0      [fe80::1%eth0]:80  [fe80::2]%eth0:5
tcp   SYN-RECV   0      0        10.0.0.2%lo:80       localhost:http
tcp   ESTAB      0
"""


class TestForms:
    def read(self, path: Path, text: str | bytes) -> Snapshot:
        (path / "snapshot").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_snapshot(str(path / "snapshot"))

    def test_ss_with_everything(self, tmp_path: Path) -> None:
        snapshot = self.read(tmp_path, SS)
        assert snapshot.form == "ss" and snapshot.listening == 1 and snapshot.at_ns is None
        assert [(s.local, s.remote, s.state, s.queued) for s in snapshot.sockets] == [
            (Endpoint("10.0.0.2", 80), Endpoint("10.0.0.1", 40000), TcpState.ESTABLISHED, 3),
            (Endpoint("fe80::1", 80), Endpoint("fe80::2", 5), TcpState.TIME_WAIT, 0),
        ]
        assert snapshot.skipped == {
            "not TCP": 1, "an address that is a name: run ss with -n": 1, "a line that is cut": 1,
        }  # fmt: skip

    def test_ss_with_a_filter_of_states_has_no_states(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no column State: run ss without a filter of states"):
            self.read(tmp_path, "Recv-Q Send-Q Local Address:Port Peer Address:Port\n0 0 10.0.0.2:80 10.0.0.1:1\n")

    def test_lines_of_sockets_of_the_last_instant(self, tmp_path: Path) -> None:
        def line(at: object, state: str = "ESTABLISHED", port: object = 5) -> str:
            ends = {"local_ip": "10.0.0.2", "local_port": 80, "remote_ip": "10.0.0.1", "remote_port": port}
            return json.dumps({"state": state, **ends, "at_ts": at})

        lines = [line(f"2025-11-21T12:00:0{n}Z", port=n) for n in (1, 3, 3, 2)]
        snapshot = self.read(
            tmp_path, "\n".join([*lines, line(None, "LISTEN"), line(None, "x"), "{", line(None, port="x")])
        )
        assert snapshot.at_ns == (BEGIN_S + 3) * S
        assert [s.remote.port for s in snapshot.sockets] == [3, 3] and snapshot.listening == 1
        assert snapshot.skipped == {
            "of an earlier instant": 2, "no state of RFC 9293": 1, "no JSON object": 1, "no address and port": 1,
        }  # fmt: skip
        assert self.read(tmp_path, line(BEGIN_S + 0.5)).at_ns == BEGIN_S * S + S // 2

    def test_conntrack_in_both_of_its_forms(self, tmp_path: Path) -> None:
        text = f"ipv4     2 {entry('ESTABLISHED')}\n{entry('SYN_SENT', flags='[UNREPLIED]')}\n"
        text += "udp 17 3 src=1.1.1.1 dst=2.2.2.2\n"
        snapshot = self.read(tmp_path, text + "conntrack v1.4.7 (conntrack-tools): 2 flow entries have been shown.\n")
        assert snapshot.form == "conntrack"
        assert [(e.state, e.timeout_s, e.unreplied) for e in snapshot.entries] == [
            ("ESTABLISHED", 99, False),
            ("SYN_SENT", 99, True),
        ]
        assert snapshot.entries[0].original == (Endpoint(*CLIENT), Endpoint(*SERVER))
        assert snapshot.skipped == {"not TCP": 1, "no line of conntrack -L": 1}

    @pytest.mark.parametrize(
        "text", ["", "\n\n", "hello world\n", "\x00\xff" * 1000, "{}\n", "[1, 2]\n", "x" * 200_000]
    )
    def test_what_is_no_snapshot_is_refused(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"snapshot: no TCP socket in it \(.*\); give the output of 'ss -tan'"):
            self.read(tmp_path, text)
        with pytest.raises(InputError, match=r"nothing: no such file or directory; check the name of --with"):
            read_snapshot(str(tmp_path / "nothing"))

    def test_a_line_that_is_too_long_is_left_out(self, tmp_path: Path) -> None:
        snapshot = self.read(tmp_path, row_of("ESTAB") + "\n" + "x" * 300_000 + "\n" + row_of("TIME-WAIT") + "\n")
        assert [s.state for s in snapshot.sockets] == [TcpState.ESTABLISHED, TcpState.TIME_WAIT]
        assert snapshot.skipped == {"a line that is too long": 1}

    def test_there_is_a_bound(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("conntrack.compare.snapshot.MOST_ROWS", 2)
        snapshot = self.read(tmp_path, f"{row_of('ESTAB')}\n" * 5)
        assert len(snapshot.sockets) == 2 and snapshot.skipped == {"beyond the first 2": 3}


PIECES = st.one_of(
    st.sampled_from([
        "State", "Netid", "tcp", "udp", "ESTAB", "LISTEN", "TIME-WAIT", "0", "-1", "10.0.0.1:80", "[::1]:1", "*:*",
        "%:", "[", "]:9", "[UNREPLIED]", "ESTABLISHED",
        "src=1.1.1.1", "dst=", "dst=::1", "sport=99999999999999999999", "dport=1", "sport=1", "6", "9" * 400, "²", "{",
        '{"state": "ESTABLISHED", "local_ip": 1, "at_ts": 1e400}', '{"at_ts": "x", "state": ["LISTEN"]}', "[" * 2000,
        '{"state": "LISTEN", "at_ts": NaN}', '{"state": "TIME_WAIT", "local_ip": "::1", "local_port": true}', "\t",
    ]),
    st.text(max_size=20),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=12), st.sampled_from([take_ss, take_netfilter, take_socket_line]))
def test_any_line_is_taken_or_counted(pieces: list[str], take: Any) -> None:
    """No line raises, and none is kept that cannot be compared."""
    snapshot = Snapshot("x", "x")
    for line in (" ".join(pieces), "".join(pieces)):
        if line.rstrip():
            take(line.rstrip(), snapshot)
    ends = [end for s in snapshot.sockets for end in (s.local, s.remote)]
    ends += [end for e in snapshot.entries for end in (*e.original, *e.reply)]
    for end in ends:
        assert 0 <= end.port <= 65_535
        assert parse_ip(end.ip)


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[str, str]:
        wire = Wire().open().send(C, FIN | ACK, wait_s=10).send(D, ACK)
        (tmp_path / "ss.txt").write_text(f"{row_of('ESTAB')}\n{row_of('ESTAB', remote='10.0.0.9:9')}\n")
        return str(write_pcap(tmp_path / "a.pcap", wire.packets)), str(tmp_path / "ss.txt")

    def test_rows(self, files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        capture, snapshot = files
        assert main(["compare", capture, "--with", snapshot, "--format", "ndjson"]) == 0
        out, err = capsys.readouterr()
        rows = [json.loads(line) for line in out.splitlines()]
        assert [(row["wire_state"], row["kernel_state"], row["reason"]) for row in rows] == [
            ("CLOSE_WAIT", "ESTABLISHED", "not_arrived"),
            (None, "ESTABLISHED", "not_captured"),
        ]
        for row in rows:
            meet_the_schema(row, "compare")
        assert rows[0]["flow_id"] == 1 and rows[0]["at_ts"] == "2025-11-21T12:00:10.040000000Z"
        assert "2 sockets of 10.0.0.2 against" in err
        assert "0 agree, 2 do not (0 only on the wire, 1 only in the kernel, 1 in another state)" in err
        assert main(["compare", capture, "--with", snapshot, "--at", "12:00:05", "--epoch"]) == 0
        out, err = capsys.readouterr()
        header, line = (line.split("\t") for line in out.splitlines())
        assert dict(zip(header, line, strict=True))["at_ts"] == "1763726405.0" and "1 agree, 1 do not" in err

    def test_a_table_for_people_is_cut_and_says_so(
        self, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "many.txt").write_text("\n".join(row_of("ESTAB", remote=f"10.0.0.1:{2000 + n}") for n in range(53)))
        assert main(["compare", files[0], "--with", str(tmp_path / "many.txt"), "--format", "table"]) == 0
        out, _ = capsys.readouterr()
        assert sum(line.split()[2:] == ["-", "ESTABLISHED", "-"] for line in out.splitlines()) == 50
        assert "  and 3 more: --format tsv has them\n" in out

    def test_agreement_is_one_line(
        self, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "one.txt").write_text(row_of("CLOSE-WAIT"))
        assert main(["compare", files[0], "--with", str(tmp_path / "one.txt"), "--format", "table"]) == 0
        out, err = capsys.readouterr()
        assert " ".join(out.split()).endswith("the wire and the kernel agree on all of them") and err == ""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--host", "x"], "--host: 'x' is not an IP address; see "),
            (["--at", "noon"], "--at: 'noon' is not a time; write "),
            (["--with", "nothing.txt"], "nothing.txt: no such file or directory; check the name of --with\n"),
        ],
    )
    def test_usage(
        self, options: list[str], message: str, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["compare", files[0], "--with", files[1], *options]) == 2
        assert capsys.readouterr().err.startswith(f"ctrack: {message}")

    def test_a_snapshot_of_listeners_does_not_say_whose_it_is(
        self, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "listen.txt"
        path.write_text("LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n")
        assert main(["compare", files[0], "--with", str(path)]) == 2
        assert capsys.readouterr().err.endswith("no socket with an address of the host; give --host IP\n")
        assert main(["compare", files[0], "--with", str(path), "--host", "10.0.0.2"]) == 0
        assert "1 only on the wire" in capsys.readouterr().err

    def test_an_older_snapshot_is_told(self, files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compare", files[0], "--with", files[1], "--at", "2025-11-20"]) == 0
        assert "the snapshot is older than the first packet, at 2025-11-21T12:00:00.01" in capsys.readouterr().err
