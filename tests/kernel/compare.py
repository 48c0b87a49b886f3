"""Holds the tracker against what the kernel said, socket by socket, and accounts for every single answer.

    python tests/kernel/compare.py OUT... [--all]

For each look at a host's socket table (oracle.py), the tracker is given that host's own capture up to that instant and
asked for its states. A *sample* is one socket at one instant at which the kernel or the tracker has it. It agrees, or
is left out for one of the reasons in `Reason`, or is a disagreement and listed. Left out is only what the wire cannot
tell at that instant; how much that is belongs to the answer.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from network import CLIENT, SERVER, Host
from numpy.typing import NDArray
from scenarios import Closed, read_closed
from sockdiag import Sample, Socket, parse, read_samples

from conntrack.capture import open_capture
from conntrack.states import Evidence, TcpState
from conntrack.timeouts import PROFILES
from conntrack.tracker import Tracker

__all__ = ["Account", "Disagreement", "Reason", "compare", "keys_of", "segments_of"]

IN_FLIGHT_NS = 5_000_000
"""A segment this close to the look may have been captured and not yet processed, or the other way round: the device
hands it to tcpdump and to TCP one after the other, and a socket that is busy with its application takes it later."""
LONGEST_LOOK_NS = 250_000_000
"""A look that took longer (4 to 20 ms are usual) is not of one instant: the machine stood still; it is set aside."""
SLACK_SHARE, SLACK_S = 1 / 8, 1.0
"""By how much a timer of the kernel may be late: its timer wheel rounds up by as much as an eighth of the time
(kernel/time/timer.c), and a second more for a machine that is busy."""
EARLY_S = 0.1
"""And early: 60 s of its ticks are not quite 60 s of the capture's clock, while that is being adjusted."""
PATIENCE_S = 0.3
"""How much longer than that eighth the tracker itself waits for a retransmission that is due (core/life.pyx)."""
SYNACK_RTO_S = 1.0
MOST_SYNACK_TURNS = 5
"""net.ipv4.tcp_synack_retries."""
ANSWER_NS = 500_000_000
"""A SYN+ACK this soon after a SYN answers it, any other is the timer's: a server leaves a SYN unanswered only if it has
answered one within this time (tcp_invalid_ratelimit), and its timer began anew at that, with a second at least."""

_FIN, _SYN, _ACK = 1, 2, 16
_DATA = 256  # not a flag of TCP: the segment has payload
CLOSED = TcpState.CLOSED.name
GONE = (CLOSED, TcpState.LISTEN.name)
UNSENT_FIN = {
    ("FIN_WAIT_1", "ESTABLISHED"),
    ("FIN_WAIT_1", "SYN_RECEIVED"),
    ("LAST_ACK", "CLOSE_WAIT"),
    ("CLOSING", "CLOSE_WAIT"),
    (CLOSED, "ESTABLISHED"),
    (CLOSED, "CLOSE_WAIT"),
}
"""(kernel, tracker) where the application has closed, and the FIN waits behind data that could not be sent yet, or is
given up with it."""
CROSSED_UNSENT_FIN = {("CLOSING", "LAST_ACK"), ("TIME_WAIT", CLOSED)}
"""... and where the peer's FIN arrived before the waiting one left: the kernel goes through CLOSING to TIME_WAIT, and
the wire shows a FIN that answers one."""


class Reason(Enum):
    """Why a sample was left out: one of three kinds, and of each only what the wire cannot tell at that instant."""

    IN_FLIGHT = "a segment around the instant of the look"

    # A state that the kernel entered, or chose to stay in, and has sent nothing since that would say so:
    UNSENT_FIN = "a FIN that the application has asked for, waiting behind data"
    DROPPED_ACK = "an ACK that a full accept queue may have dropped, which only the server's next segment will show"
    """The last ACK of the handshake comes. The server is ESTABLISHED, or has dropped it in silence and is SYN_RECEIVED
    (tcp_check_req, listen_overflow); either way it sends nothing. What it sends next, data or the SYN+ACK again, or
    that it does not send that when it is due, tells; until then its capture is the same, octet by octet. Only samples
    at which it has sent nothing but SYN+ACKs are left out, only with these two states and what a FIN makes of them."""
    COOKIE = "a SYN cookie, which only the lack of another SYN+ACK will show"
    """The SYN+ACK of a server that keeps nothing (CLOSED: it was never anything else) is, to the octet, that of one in
    SYN_RECEIVED. That it is not sent again when it is due, a second later, tells; left out is what comes before."""

    TIMER_SLACK = "a timer of the kernel within its slack"


class Disagreement(NamedTuple):
    """One socket at one instant of which tracker and kernel say different things."""

    end: str
    at_ns: int
    local: str
    remote: str
    kernel: str
    ours: str
    ours_since_ns: int
    evidence: str
    flow_id: int

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.at_ns / 1e9, UTC).strftime("%H:%M:%S.%f")
        age = f", {(self.at_ns - self.ours_since_ns) / 1e9:.3f} s" if self.flow_id else ""
        ours = f"{self.ours} ({self.evidence.lower()}{age}; flow {self.flow_id})" if self.flow_id else self.ours
        return f"{when} {self.end} {self.local} > {self.remote}: kernel {self.kernel}, tracker {ours}"


@dataclass
class Account:
    """What became of every sample; `samples` is the sum of all others. Looks that took too long have none."""

    looks: int = 0
    looks_set_aside: int = 0
    samples: int = 0
    agreed: int = 0
    left_out: Counter[Reason] = field(default_factory=Counter)
    disagreements: list[Disagreement] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Account) -> Account:
        self.looks += other.looks
        self.looks_set_aside += other.looks_set_aside
        self.samples += other.samples
        self.agreed += other.agreed
        self.left_out += other.left_out
        self.disagreements += other.disagreements
        self.states += other.states
        return self

    @property
    def share_left_out(self) -> float:
        return sum(self.left_out.values()) / max(self.samples, 1)

    def lines(self, most: int) -> Iterator[str]:
        """The account in words, with at most so many disagreements of each kind."""
        compared = self.agreed + len(self.disagreements)
        yield f"{self.looks} looks, {self.looks_set_aside} set aside because they took too long"
        yield f"{self.samples} samples, {compared} compared, {self.agreed} agree: {self.agreed / max(compared, 1):.4%}"
        yield f"left out: {sum(self.left_out.values())} ({self.share_left_out:.2%})"
        yield from (f"    {count:7} {reason.value}" for reason, count in self.left_out.most_common())
        yield "agreed by state: " + ", ".join(f"{state} {count}" for state, count in self.states.most_common())
        kinds = Counter((one.end, one.kernel, one.ours) for one in self.disagreements)
        for kind, count in kinds.most_common():
            yield f"disagreement: {kind[0]}, kernel {kind[1]}, tracker {kind[2]}: {count}"
            listed = [one for one in self.disagreements if (one.end, one.kernel, one.ours) == kind]
            yield from (f"    {one}" for one in listed[:most])


class _Ours(NamedTuple):
    state: str
    since_ns: int
    evidence: int
    flow_id: int


_NOTHING = _Ours(CLOSED, 0, 0, 0)


def segments_of(path: Path) -> NDArray[np.void]:
    """All TCP segments of a capture."""
    with open_capture([str(path)]) as capture:
        return np.concatenate([batch.copy() for batch in capture])


def _addresses(host: Host) -> list[bytes]:
    v4 = bytes(10) + b"\xff\xff" + socket.inet_aton(host.ipv4)
    return [v4, socket.inet_pton(socket.AF_INET6, host.ipv6)]


def _is_local(host: Host, addresses: NDArray[Any]) -> NDArray[np.bool_]:
    wanted = np.frombuffer(b"".join(_addresses(host)), dtype=np.uint8).reshape(-1, 16)
    return (addresses[:, None, :] == wanted[None, :, :]).all(axis=2).any(axis=1)


def keys_of(host: Host, rows: NDArray[np.void], one: str, other: str) -> list[bytes]:
    """The socket of `host` that each row is about, as in sockdiag.Socket.key; the two ends are fields `one`_ip, ..."""
    near = _is_local(host, rows[f"{one}_ip"])
    key = np.empty((len(rows), 36), dtype=np.uint8)
    for at, (first, second) in ((0, (one, other)), (18, (other, one))):
        key[:, at : at + 16] = np.where(near[:, None], rows[f"{first}_ip"], rows[f"{second}_ip"])
        ports = np.where(near, rows[f"{first}_port"], rows[f"{second}_port"]).astype(">u2")
        key[:, at + 16 : at + 18] = ports.view(np.uint8).reshape(-1, 2)
    return key.view("V36").ravel().tolist()


def _ours(host: Host, rows: NDArray[np.void]) -> dict[bytes, _Ours]:
    is_client = _is_local(host, rows["client_ip"])
    columns = [
        np.where(is_client, rows[f"client_{name}"], rows[f"server_{name}"]).tolist()
        for name in ("state", "since_ts_ns", "state_evidence")
    ]
    names = [state.name for state in TcpState]
    return {
        key: _Ours(names[state], since, evidence, flow_id)
        for key, state, since, evidence, flow_id in zip(
            keys_of(host, rows, "client", "server"), *columns, rows["flow_id"].tolist(), strict=True
        )
    }


class _Judge:
    """Decides why a sample on which the two differ is not a disagreement, if there is a reason.

    It may look at the whole capture, and so see what only became plain later.
    """

    def __init__(self, host: Host, segments: NDArray[np.void], keys: list[bytes], closed: Closed) -> None:
        self._out: dict[bytes, list[tuple[int, int]]] = {}
        self._in: dict[bytes, list[tuple[int, int]]] = {}
        near = _is_local(host, segments["src_ip"]).tolist()
        kinds = (segments["flags"] & 0x17) + _DATA * (segments["payload_bytes"] > 0)
        for key, is_out, ts, flags in zip(keys, near, segments["ts_ns"].tolist(), kinds.tolist(), strict=True):
            (self._out if is_out else self._in).setdefault(key, []).append((ts, flags))
        self._closed: dict[bytes, list[int]] = {}
        for ts, key in closed:
            self._closed.setdefault(key, []).append(ts)

    def reason(self, key: bytes, kernel: Socket | None, ours: _Ours, at_ns: int) -> Reason | None:
        """None where it is a disagreement."""
        said = kernel.state if kernel else CLOSED
        mine = CLOSED if ours.state in GONE else ours.state
        if self._fin_was_queued(key, said, mine, at_ns):
            return Reason.UNSENT_FIN
        if _within_slack(said, ours, at_ns):
            return Reason.TIMER_SLACK
        if said == CLOSED and mine == "SYN_RECEIVED" and self._synack_is_overdue(key, at_ns):
            return Reason.TIMER_SLACK
        if said == CLOSED and mine in ("FIN_WAIT_1", "CLOSING", "LAST_ACK") and self._fin_is_overdue(key, at_ns):
            return Reason.TIMER_SLACK
        if self._ack_was_dropped(key, said, mine, at_ns) or self._last_ack_was_taken(key, said, ours, at_ns):
            return Reason.DROPPED_ACK
        if said == CLOSED and mine == "SYN_RECEIVED" and self._was_cookie(key, at_ns):
            return Reason.COOKIE
        return None

    def _fin_was_queued(self, key: bytes, said: str, mine: str, at_ns: int) -> bool:
        """Whether the application had closed, and its FIN left too late to show it, or has not left yet."""
        closed = max((ts for ts in self._closed.get(key, ()) if ts < at_ns), default=None)
        if closed is None:
            return False
        left = min((ts for ts, flags in self._out.get(key, ()) if flags & _FIN and ts > closed), default=at_ns)
        if (said, mine) in UNSENT_FIN:
            return left >= at_ns
        crossed = any(closed < ts < left for ts, flags in self._in.get(key, ()) if flags & _FIN)
        return (said, mine) in CROSSED_UNSENT_FIN and crossed

    def _synacks(self, key: bytes) -> list[int]:
        return [ts for ts, flags in self._out.get(key, ()) if flags & (_SYN | _ACK) == _SYN | _ACK]

    def _repeats(self, key: bytes) -> list[int]:
        """The SYN+ACKs that a timer sent: all but the first and those that answer a SYN."""
        asked = self._syns(key)
        return [ts for ts in self._synacks(key)[1:] if not any(0 <= ts - syn < ANSWER_NS for syn in asked)]

    def _syns(self, key: bytes) -> list[int]:
        return [ts for ts, flags in self._in.get(key, ()) if flags & (_SYN | _ACK) == _SYN]

    def _ack_was_dropped(self, key: bytes, said: str, mine: str, at_ns: int) -> bool:
        """Whether nothing this end has sent could show yet that the last ACK of the handshake was dropped, or taken."""
        synacks = [ts for ts in self._synacks(key) if ts < at_ns]
        if not synacks or any(ts > synacks[-1] and not flags & _SYN for ts, flags in self._before(key, at_ns)):
            return False
        if said == "SYN_RECEIVED":
            return mine in ("ESTABLISHED", "CLOSE_WAIT")
        asked_again = any(ts < synacks[-1] and not flags & _SYN for ts, flags in self._in.get(key, ()))
        return said in ("ESTABLISHED", "CLOSE_WAIT") and mine == "SYN_RECEIVED" and asked_again

    def _last_ack_was_taken(self, key: bytes, said: str, ours: _Ours, at_ns: int) -> bool:
        """Whether the server took the ACK of the last SYN+ACK that its timer sends, and has not spoken since.

        Had it dropped that ACK too, it would have given up in silence: the wire is the same.
        """
        if said not in ("ESTABLISHED", "CLOSE_WAIT") or (ours.state, ours.evidence) != (CLOSED, Evidence.EXPIRED):
            return False
        sent = self._before(key, at_ns)
        return (
            bool(sent)
            and sent[-1][1] & (_SYN | _ACK) == _SYN | _ACK
            and len(self._repeats(key)) >= MOST_SYNACK_TURNS
            and any(sent[-1][0] < ts < ours.since_ns and not flags & _SYN for ts, flags in self._in.get(key, ()))
        )

    def _before(self, key: bytes, at_ns: int) -> list[tuple[int, int]]:
        return [one for one in self._out.get(key, ()) if one[0] < at_ns]

    def _was_cookie(self, key: bytes, at_ns: int) -> bool:
        """Whether no timer ever repeated the SYN+ACK, and the tracker could not have missed that yet.

        The next SYN may get another answer, which is kept and repeated.
        """
        before = [ts for ts in self._synacks(key) if ts < at_ns]
        if not before:
            return False
        next_syn = min((ts for ts in self._syns(key) if ts > before[-1]), default=before[-1] + 2**62)
        if any(before[-1] < ts < next_syn for ts in self._repeats(key)):
            return False
        return at_ns - before[-1] <= (SYNACK_RTO_S * (1 + SLACK_SHARE) + PATIENCE_S) * 1e9

    def _synack_is_overdue(self, key: bytes, at_ns: int) -> bool:
        """Whether a SYN+ACK is due and has not come, but the tracker has to wait a little longer to be sure."""
        before = [ts for ts in self._synacks(key) if ts < at_ns]
        turns = sum(ts < at_ns for ts in self._repeats(key))
        waited, due = (at_ns - before[-1]) / 1e9 if before else 0.0, SYNACK_RTO_S * 2**turns
        return due - EARLY_S <= waited <= due * (1 + SLACK_SHARE) + PATIENCE_S

    def _fin_is_overdue(self, key: bytes, at_ns: int) -> bool:
        """The same of a FIN, whose next turn comes after twice as long as the last one did.

        Each turn may have been late itself, so that it is as long as all before it together, and a little more or less.
        """
        before = self._before(key, at_ns)
        opened = max((ts for ts, flags in before if flags & _SYN), default=0)
        first = min((ts for ts, flags in before if flags & _FIN and ts > opened), default=None)
        sent = [ts for ts, flags in before if flags & (_FIN | _DATA)]  # with the FIN waits what is before it
        if first is None or len(sent) < 2:
            return False
        waited, turn, together = at_ns - sent[-1], 2 * (sent[-1] - sent[-2]), sent[-1] - first
        return turn * (1 - SLACK_SHARE) <= waited <= max(turn, together) * (1 + SLACK_SHARE) + SLACK_S * 1e9


def _within_slack(kernel: str, ours: _Ours, at_ns: int) -> bool:
    age = at_ns - ours.since_ns
    if kernel == CLOSED and ours.state == TcpState.TIME_WAIT.name:
        return age >= (PROFILES["linux"].states[TcpState.TIME_WAIT].timeout_s - EARLY_S) * 1e9
    timer = PROFILES["linux"].states.get(TcpState[kernel])
    if timer is None or ours.state not in GONE or ours.evidence != Evidence.EXPIRED:
        return False
    return age <= (timer.timeout_s * SLACK_SHARE + SLACK_S) * 1e9


def _text(key: bytes) -> tuple[str, str]:
    ends = []
    for at in (0, 18):
        address, port = key[at : at + 16], int.from_bytes(key[at + 16 : at + 18], "big")
        v4 = address.startswith(bytes(10) + b"\xff\xff")
        ip = socket.inet_ntop(socket.AF_INET, address[12:]) if v4 else socket.inet_ntop(socket.AF_INET6, address)
        ends.append(f"{ip}:{port}" if v4 else f"[{ip}]:{port}")
    return ends[0], ends[1]


def _compare_at(
    account: Account, host: Host, sample: Sample, ours: dict[bytes, _Ours], busy: set[bytes], judge: _Judge
) -> None:
    kernel = {one.key: one for one in parse(sample.raw)}
    for key in kernel.keys() | ours.keys():
        theirs, mine = kernel.get(key), ours.get(key, _NOTHING)
        said = theirs.state if theirs else CLOSED
        state = CLOSED if mine.state in GONE else mine.state
        if said == state == CLOSED:
            continue
        account.samples += 1
        if key in busy:
            account.left_out[Reason.IN_FLIGHT] += 1
        elif said == state:
            account.agreed += 1
            account.states[state] += 1
        elif reason := (  # the look was at some instant between the two
            judge.reason(key, theirs, mine, sample.before_ns) or judge.reason(key, theirs, mine, sample.after_ns)
        ):
            account.left_out[reason] += 1
        else:
            account.disagreements.append(
                Disagreement(
                    host.name,
                    sample.before_ns,
                    *_text(key),
                    said,
                    state,
                    mine.since_ns,
                    Evidence(mine.evidence).name,
                    mine.flow_id,
                )
            )


def compare(folder: Path, host: Host) -> Account:
    """Hold the tracker against the kernel of `host`, by the capture and the socket tables in `folder`."""
    account = Account()
    segments = segments_of(folder / f"{host.name}.pcap")
    segments = segments[np.argsort(segments["ts_ns"], kind="stable")]
    keys = keys_of(host, segments, "src", "dst")
    times = segments["ts_ns"]
    judge = _Judge(host, segments, keys, read_closed(folder / f"{host.name}.closed"))
    tracker = Tracker()
    done = 0
    over: dict[bytes, _Ours] = {}
    for sample in read_samples(folder / f"{host.name}.table"):
        account.looks += 1
        if sample.after_ns - sample.before_ns > LONGEST_LOOK_NS:
            account.looks_set_aside += 1
            continue
        upto = int(np.searchsorted(times, sample.before_ns))
        tracker.process(segments[done:upto])
        done = upto
        begin, end = np.searchsorted(times, [sample.before_ns - IN_FLIGHT_NS, sample.after_ns + IN_FLIGHT_NS])
        for rows in tracker.retired():
            over.update(_ours(host, rows))
        rows = tracker.snapshot(max(sample.before_ns, tracker.now_ns or 0))
        ours = over | _ours(host, rows)
        _compare_at(account, host, sample, ours, set(keys[begin:end]), judge)
    return account


def main(arguments: list[str] | None = None) -> int:
    """The command; see the module. 1 when anything disagrees."""
    parser = argparse.ArgumentParser(description="the tracker against the kernel, socket by socket")
    parser.add_argument("folders", type=Path, nargs="+", metavar="OUT", help="folders that oracle.py wrote")
    parser.add_argument("--all", action="store_true", help="list every disagreement, not five of each kind")
    given = parser.parse_args(arguments)
    agreed = True
    for folder in given.folders:
        for host in (CLIENT, SERVER):
            account = compare(folder, host)
            print(f"{folder}, {host.name}:", *account.lines(sys.maxsize if given.all else 5), sep="\n  ")
            agreed = agreed and not account.disagreements
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
