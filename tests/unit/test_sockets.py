"""Which sockets were open at an instant: what `ss -tan` on the host would have shown, from hand-made exchanges."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from segments import START_NS, STORIES, Exchange, in_state, merge

from conntrack.addresses import endpoint_text, parse_ip
from conntrack.core import sweep
from conntrack.core.abi import SOCKET_DTYPE
from conntrack.sockets import segments_of_host, sockets_at
from conntrack.states import Evidence, TcpState
from conntrack.tracker import Tracker

Array = np.ndarray[Any, Any]

MS = 1_000_000
SECOND = 1_000 * MS
CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:80"


def ask(segments: Array, *instants: int, host: str | None = None, batch: int = 0) -> dict[int, Array]:
    """The sockets at each instant, the segments handed over in batches of `batch`."""
    edges = [*range(0, len(segments), batch or len(segments)), len(segments)]
    batches = [segments[begin:end] for begin, end in pairwise(edges)]
    address = parse_ip(host) if host else None
    return dict(sockets_at(batches, Tracker(validate=True), instants, host=address))


def spoken(rows: Array) -> list[str]:
    """Rows as `ss` would print them."""
    return [
        f"{TcpState(row['state']).name} {endpoint_text(row['local_ip'], row['ip_version'], row['local_port'])} "
        f"{endpoint_text(row['remote_ip'], row['ip_version'], row['remote_port'])}"
        for row in rows
    ]


def states(rows: Array) -> list[str]:
    return [TcpState(state).name for state in rows["state"]]


class TestOneConnection:
    """A whole life, a segment a second, asked half a second after each."""

    story = (
        Exchange(step_s=1).client("S").server("S.").client(".").client("F.").server(".").server("F.").client(".")
    ).segments()

    @pytest.mark.parametrize(
        ("after", "expected"),
        [
            (0, []),
            (1, ["SYN_SENT"]),
            (2, ["SYN_SENT", "SYN_RECEIVED"]),
            (3, ["ESTABLISHED", "ESTABLISHED"]),
            (4, ["FIN_WAIT_1", "CLOSE_WAIT"]),
            (5, ["FIN_WAIT_2", "CLOSE_WAIT"]),
            (6, ["TIME_WAIT", "LAST_ACK"]),
            (7, ["TIME_WAIT"]),
            (65, ["TIME_WAIT"]),
            (66, []),
        ],
    )
    def test_states_after_each_step(self, after: int, expected: list[str]) -> None:
        at_ns = START_NS + after * SECOND + SECOND // 2
        rows = ask(self.story, at_ns)[at_ns]
        assert rows.dtype == SOCKET_DTYPE
        assert states(rows) == expected
        assert (rows["at_ts_ns"] == at_ns).all()

    def test_the_instant_of_a_segment_is_after_it(self) -> None:
        at_ns = START_NS + 3 * SECOND
        assert states(ask(self.story, at_ns)[at_ns]) == ["ESTABLISHED", "ESTABLISHED"]
        assert states(ask(self.story, at_ns - 1)[at_ns - 1]) == ["SYN_SENT", "SYN_RECEIVED"]

    def test_since_is_when_the_state_was_entered(self) -> None:
        at_ns = START_NS + 6 * SECOND + SECOND // 2
        rows = ask(self.story, at_ns)[at_ns]
        assert rows["since_ts_ns"].tolist() == [START_NS + 6 * SECOND, START_NS + 6 * SECOND]
        at_ns = START_NS + 5 * SECOND
        rows = ask(self.story, at_ns)[at_ns]
        assert rows["since_ts_ns"].tolist() == [START_NS + 5 * SECOND, START_NS + 4 * SECOND]

    def test_each_end_has_its_own_point_of_view(self) -> None:
        at_ns = START_NS + 3 * SECOND
        rows = ask(self.story, at_ns)[at_ns]
        assert spoken(rows) == [f"ESTABLISHED {CLIENT} {SERVER}", f"ESTABLISHED {SERVER} {CLIENT}"]
        assert rows["flow_id"].tolist() == [1, 1]

    def test_all_instants_in_one_pass_equal_one_each(self) -> None:
        instants = [START_NS + half * SECOND // 2 for half in range(-2, 140)]
        together = ask(self.story, *instants[::-1], *instants)
        assert list(together) == instants
        for at_ns in instants:
            assert np.array_equal(together[at_ns], ask(self.story, at_ns)[at_ns])
            assert np.array_equal(together[at_ns], ask(self.story, at_ns, batch=2)[at_ns])


@pytest.mark.parametrize("pair", STORIES, ids=lambda pair: "-".join(state.name for state in pair))
def test_every_pair_of_states_shows_its_open_ends(pair: tuple[TcpState, TcpState]) -> None:
    exchange = in_state(*pair)
    rows = ask(exchange.segments(), exchange.now_ns)[exchange.now_ns]
    assert states(rows) == [state.name for state in pair if state not in (TcpState.CLOSED, TcpState.LISTEN)]


def test_rows_are_those_of_a_snapshot() -> None:
    capture = merge(
        *(
            in_state(*pair, client=f"10.0.{index}.1:40000", start_ns=START_NS + index * SECOND)
            for index, pair in enumerate(STORIES)
        )
    )
    tracker = Tracker(validate=True)
    tracker.process(capture)
    before = tracker.snapshot()
    for after_s in (0, 30, 61, 64, 103, 128, 10_000):
        at_ns = int(capture["ts_ns"].max()) + after_s * SECOND
        expected = [
            (flow["flow_id"], flow[f"{end}_state"], flow[f"{end}_since_ts_ns"], flow[f"{end}_state_evidence"])
            for flow in tracker.snapshot(at_ns)
            for end in ("client", "server")
            if flow[f"{end}_state"] not in (TcpState.CLOSED, TcpState.LISTEN)
        ]
        rows = tracker.sockets(at_ns)
        assert [(r["flow_id"], r["state"], r["since_ts_ns"], r["evidence"]) for r in rows] == expected
        assert (rows["evidence"] != Evidence.EXPIRED).all()
    sweep.check(tracker._table)
    assert np.array_equal(tracker.snapshot(), before)


def test_evidence_says_how_the_state_is_known() -> None:
    midstream = Exchange().client("P.", 10, seq=1, ack=1)
    assert set(ask(midstream.segments(), midstream.now_ns)[midstream.now_ns]["evidence"]) == {Evidence.ASSUMED}
    lost = Exchange().client("S").server("S.", lost=True).client(".", ack=1)
    rows = ask(lost.segments(), lost.now_ns)[lost.now_ns]
    assert Evidence.INFERRED in rows["evidence"]
    whole = Exchange().client("S").server("S.").client(".")
    assert set(ask(whole.segments(), whole.now_ns)[whole.now_ns]["evidence"]) == {Evidence.SEEN}


class TestHost:
    capture = merge(
        in_state(TcpState.ESTABLISHED, TcpState.ESTABLISHED),
        in_state(TcpState.FIN_WAIT_2, TcpState.CLOSE_WAIT, client="10.0.0.2:50000", server="10.0.0.3:443"),
        in_state(TcpState.ESTABLISHED, TcpState.ESTABLISHED, client="[2001:db8::1]:40000", server="[2001:db8::2]:80"),
        in_state(TcpState.ESTABLISHED, TcpState.ESTABLISHED, client="127.0.0.1:41000", server="127.0.0.1:22"),
        in_state(TcpState.ESTABLISHED, TcpState.ESTABLISHED, client="[2001:db8::9]:1", server="[2001:db8::9]:2"),
    )
    end_ns = int(capture["ts_ns"].max())

    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("10.0.0.1", [f"ESTABLISHED {CLIENT} {SERVER}"]),
            (
                "10.0.0.2",
                [f"ESTABLISHED {SERVER} {CLIENT}", "FIN_WAIT_2 10.0.0.2:50000 10.0.0.3:443"],
            ),
            ("2001:db8::2", ["ESTABLISHED [2001:db8::2]:80 [2001:db8::1]:40000"]),
            (
                "127.0.0.1",
                ["ESTABLISHED 127.0.0.1:41000 127.0.0.1:22", "ESTABLISHED 127.0.0.1:22 127.0.0.1:41000"],
            ),
            (
                "2001:db8::9",
                ["ESTABLISHED [2001:db8::9]:1 [2001:db8::9]:2", "ESTABLISHED [2001:db8::9]:2 [2001:db8::9]:1"],
            ),
            ("10.0.0.9", []),
            ("::ffff:10.0.0.1", []),
        ],
    )
    def test_only_its_own_ends(self, host: str, expected: list[str]) -> None:
        assert spoken(ask(self.capture, self.end_ns, host=host)[self.end_ns]) == expected

    def test_everybody_without_one(self) -> None:
        assert len(ask(self.capture, self.end_ns)[self.end_ns]) == 10

    @pytest.mark.parametrize("seed", range(20))
    def test_is_what_is_its_own_of_everybody(self, seed: int) -> None:
        """Also where times go backwards, over minutes, so that timers run out while a segment is late."""
        rng = np.random.default_rng(seed)
        pairs = list(STORIES)
        exchanges = [
            in_state(
                *pairs[rng.integers(len(pairs))],
                client=f"10.0.0.{rng.integers(1, 4)}:{40_000 + index}",
                server=f"10.0.0.{rng.integers(4, 6)}:80",
                start_ns=START_NS + int(rng.integers(0, 300)) * SECOND,
                step_s=float(rng.choice([0.001, 1, 50, 65])),
            )
            for index in range(60)
        ]
        capture = merge(*exchanges)
        order = np.argsort(capture["ts_ns"] + rng.integers(0, 2, len(capture)) * 100 * SECOND, kind="stable")
        capture = capture[order]
        capture["frame"] = np.arange(1, len(capture) + 1)
        instants = rng.integers(START_NS - SECOND, capture["ts_ns"].max() + 150 * SECOND, 50).tolist()
        instants += capture["ts_ns"][::10].tolist()
        everybody = ask(capture, *instants)
        for host in ("10.0.0.1", "10.0.0.4"):
            raw = np.frombuffer(parse_ip(host)[0], np.uint8)
            for batch in (0, 7):
                for at_ns, rows in ask(capture, *instants, host=host, batch=batch).items():
                    own = everybody[at_ns][(everybody[at_ns]["local_ip"] == raw).all(axis=1)]
                    assert np.array_equal(rows, own)

    def test_segments_of_others_are_left_out(self) -> None:
        (kept,) = segments_of_host([self.capture], parse_ip("2001:db8::1"))
        assert len(kept) <= 4
        assert len(self.capture) > 10


def test_a_segment_behind_a_later_one_is_not_seen() -> None:
    """The segments in file order up to the first that is later than the instant."""
    rows = Exchange(step_s=1).client("S").server("S.").client(".").segments()
    swapped = rows[[0, 2, 1]]
    at_ns = START_NS + 2 * SECOND
    assert states(ask(swapped, at_ns)[at_ns]) == ["SYN_SENT"]


def test_nothing_is_read_behind_the_last_instant() -> None:
    read = []

    def batches() -> Any:
        for number, row in enumerate(TestOneConnection.story):
            read.append(number)
            yield np.array([row])

    answers = dict(sockets_at(batches(), Tracker(), [START_NS + 2 * SECOND]))
    assert len(answers) == 1
    assert read == [0, 1, 2]
    assert dict(sockets_at(batches(), Tracker(), [])) == {}
    assert read == [0, 1, 2]


def test_no_segments_and_the_ends_of_time() -> None:
    none = TestOneConnection.story[:0]
    far = (-(2**63) + 1, 0, 2**63 - 1)
    assert [len(rows) for rows in dict(sockets_at([none], Tracker(), far)).values()] == [0, 0, 0]
    steady = in_state(TcpState.ESTABLISHED, TcpState.ESTABLISHED).segments()
    assert [len(rows) for rows in ask(steady, *far).values()] == [0, 0, 2]


def test_the_past_is_refused() -> None:
    tracker = Tracker()
    tracker.process(TestOneConnection.story)
    with pytest.raises(ValueError, match="is before the last segment"):
        tracker.sockets(START_NS)
    assert states(tracker.sockets()) == ["TIME_WAIT"]


def test_the_kernel_refuses_what_does_not_fit() -> None:
    tracker = Tracker()
    tracker.process(TestOneConnection.story)
    table, ip = tracker._table, np.zeros(16, np.uint8)
    at_ns = tracker.now_ns
    with pytest.raises(TypeError, match="sockets are"):
        sweep.sockets(table, at_ns, 0, ip, np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="expected 2 rows"):
        sweep.sockets(table, at_ns, 0, ip, np.zeros(1, SOCKET_DTYPE))
    with pytest.raises(ValueError, match="16 bytes"):
        sweep.sockets(table, at_ns, 0, ip[:4], np.zeros(2, SOCKET_DTYPE))
