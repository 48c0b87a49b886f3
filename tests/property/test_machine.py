"""Random histories: plausible exchanges, then mutated, told to the tracker and to the model, which must agree.

And what holds of any history: batches do not matter, retransmissions move nothing twice, both ends mirror each other.
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from model import Model
from numpy.typing import NDArray
from segments import FLAGS, START_NS, STORIES, Exchange, in_state, merge
from tracked import after_each, agreed, track

from conntrack.states import TcpState

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:80"

sides = st.sampled_from(["client", "server"])
payloads = st.sampled_from([0, 0, 1, 10, 1448])
gaps = st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.0, 3.0, 61.0, 64.0, 103.0, 128.0, 200.0])
numbers = st.sampled_from([3_000_000, 2**31 - 2000, 2**31, 2**32 - 3_000_000, 2**32 - 1501, 2**32 - 6])
offsets = st.sampled_from([0, 0, 0, 0, -1, 1, -10, 10, 1448, -1448, 40_000, 3_000_000])

SEGMENT = st.tuples(
    st.just("segment"),
    sides,
    st.sampled_from([".", ".", "P.", "P.", "F.", "F.", "R", "R.", "S", "S."]),
    payloads,
    offsets,
    offsets,
    st.booleans(),
)
PLAIN = st.tuples(st.just("plain"), sides, st.sampled_from([".", "P.", "P.", "F."]), payloads, st.booleans())
STEPS = st.one_of(
    PLAIN,
    PLAIN,
    PLAIN,
    SEGMENT,
    st.tuples(st.just("again"), st.integers(0, 40)),
    st.tuples(st.just("wait"), gaps),
    st.tuples(st.just("odd"), sides, st.sampled_from(["F", "SF", "", "SR", "FPU"])),
    st.tuples(st.just("reopen"), numbers, numbers),
)


def play(exchange: Exchange, steps: list[tuple]) -> None:
    """Go on with an exchange."""
    for step in steps:
        match step:
            case "plain", side, flags, payload, lost:
                getattr(exchange, side)(flags, payload if "P" in flags else 0, lost=lost)
            case "segment", side, flags, payload, seq, ack, lost:
                sender, receiver = exchange.ends(side)
                start = 0 if "S" in flags else sender.next
                exchange_payload = 0 if set("SR") & set(flags) else payload
                getattr(exchange, side)(flags, exchange_payload, seq=start + seq, ack=receiver.next + ack, lost=lost)
            case "again", index:
                if exchange.count:
                    exchange.again(index % exchange.count)
            case "wait", seconds:
                exchange.wait(seconds)
            case "odd", side, flags:
                if exchange.count:
                    getattr(exchange, side)(flags, seq=1)
            case "reopen", client_iss, server_iss:
                exchange.reopen(client_iss, server_iss)
                exchange.client("S").server("S.").client(".")


@st.composite
def exchanges(draw: st.DrawFn, client: str = CLIENT) -> Exchange:
    """One exchange, from any starting point."""
    options = {
        "client": client,
        "server": SERVER,
        "client_iss": draw(numbers),
        "server_iss": draw(numbers),
        "timestamps": draw(st.booleans()),
        "scale": draw(st.sampled_from([0, 7, 255])),
    }
    start = draw(st.sampled_from([None, *STORIES]))
    exchange = Exchange(**options) if start is None else in_state(*start, **options)
    play(exchange, draw(st.lists(STEPS, max_size=25)))
    return exchange


@st.composite
def captures(draw: st.DrawFn) -> NDArray[np.void]:
    """One or two exchanges in one capture; segments now and then out of order."""
    count = draw(st.sampled_from([1, 1, 1, 2]))
    parts = [draw(exchanges(client=f"10.0.0.{n + 1}:{40000 + n}")) for n in range(count)]
    segments = merge(*parts)
    for at in draw(st.lists(st.integers(0, 40), max_size=3)):
        if at + 1 < len(segments):
            times = segments["ts_ns"][at : at + 2].copy()
            segments[[at, at + 1]] = segments[[at + 1, at]]
            segments["ts_ns"][at : at + 2] = times
    segments["frame"] = np.arange(1, len(segments) + 1)
    return segments


def ladder(segments: NDArray[np.void]) -> str:
    """A capture for people."""
    lines = []
    for s in segments:
        flags = "".join(letter for letter, bit in FLAGS.items() if s["flags"] & bit)
        time = (int(s["ts_ns"]) - START_NS) / 1e9
        lines.append(
            f"{s['frame']:3} {time:9.3f} {s['src_port']:5} > {s['dst_port']:5} [{flags}] seq {s['seq']} ack {s['ack']}"
            f" len {s['payload_bytes']} tsval {s['tsval']} id {s['ip_id']}"
        )
    return "\n".join(lines)


@SETTINGS
@given(captures())
def test_the_tracker_and_the_model_agree(segments: NDArray[np.void]) -> None:
    note(ladder(segments))
    model = Model()
    model.process(segments)
    assert agreed(track(segments)) == model.rows()


@SETTINGS
@given(captures(), st.sets(st.integers(0, 60), max_size=6))
def test_batches_do_not_matter(segments: NDArray[np.void], cuts: set[int]) -> None:
    whole = track(segments)
    assert track(segments, cuts=[cut for cut in cuts if cut < len(segments)]).tobytes() == whole.tobytes()
    assert track(segments, cuts=range(1, len(segments))).tobytes() == whole.tobytes()


@SETTINGS
@given(exchanges(), st.integers(0, 60))
def test_a_segment_repeated_at_once_moves_no_state(exchange: Exchange, at: int) -> None:
    """What a host sends again changes nothing but counts; only a SYN may mean something more the second time."""
    segments = exchange.segments()
    plain = np.flatnonzero((segments["flags"] & 2) == 0)
    if not len(plain):
        return
    index = int(plain[at % len(plain)])
    repeated = np.insert(segments, index + 1, segments[index])
    repeated["ip_id"][index + 1] ^= 0x8000
    note(ladder(repeated))
    assert states(track(repeated)) == states(track(segments))


@SETTINGS
@given(exchanges(), st.sets(st.integers(0, 60), min_size=1))
def test_a_duplicated_frame_moves_no_state(exchange: Exchange, at: set[int]) -> None:
    """Whatever the segment was; and each is counted, as a frame that is there twice or as a segment."""
    segments = exchange.segments()
    picks = sorted({index % len(segments) for index in at if len(segments)})
    twice = np.insert(segments, [index + 1 for index in picks], segments[picks]) if picks else segments
    note(ladder(twice))
    plain, rows = track(segments), track(twice)
    assert states(rows) == states(plain)
    counted = sum(int(rows[name].sum()) for name in ("client_packets", "server_packets"))
    assert counted + int(rows["client_duplicates"].sum() + rows["server_duplicates"].sum()) == len(twice)


@st.composite
def conversations(draw: st.DrawFn) -> Exchange:
    """A whole connection as two hosts have it, without a lost packet, ended by FINs, crossing or not, or not at all."""
    exchange = Exchange(timestamps=draw(st.booleans()), step_s=0.01).client("S").server("S.").client(".")
    for side, payload in draw(st.lists(st.tuples(sides, st.sampled_from([1, 100, 1448])), max_size=8)):
        getattr(exchange, side)("P.", payload)
        getattr(exchange, "server" if side == "client" else "client")(".")
    first = draw(sides)
    second = "server" if first == "client" else "client"
    match draw(st.sampled_from(["open", "half", "crossing", "one by one", "three"])):
        case "half":
            getattr(getattr(exchange, first)("F."), second)(".")
        case "crossing":
            known = exchange.ends(first)[0].next
            getattr(getattr(exchange, first)("F."), second)("F.", ack=known)
            getattr(getattr(exchange, first)("."), second)(".")
        case "one by one":
            getattr(getattr(exchange, first)("F."), second)(".")
            getattr(getattr(exchange, second)("F."), first)(".")
        case "three":
            getattr(getattr(getattr(exchange, first)("F."), second)("F."), first)(".")
    return exchange


@SETTINGS
@given(conversations(), st.data())
def test_no_order_of_repeated_segments_changes_the_end(exchange: Exchange, data: st.DataObject) -> None:
    """Segments are sent again at any later place, and frames are there twice: the connection ends as it did."""
    segments = exchange.segments()
    told = [(index, False) for index in range(len(segments))]
    for index, later in data.draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=6)):
        index %= len(segments)
        if segments["flags"][index] & 2 == 0:  # a SYN+ACK again says that the accept queue is full
            begin = told.index((index, False)) + 1
            told.insert(begin + later % (len(told) - begin + 1), (index, True))
    rows = segments[[index for index, _ in told]]
    rows["ip_id"] = 0x4000 + np.arange(len(rows), dtype=np.uint16)
    rows["ts_ns"] = segments["ts_ns"][0] + np.arange(len(rows)) * 10**7
    rows["tsval"] = np.maximum.accumulate(rows["tsval"])
    copies = sorted({at % len(rows) for at in data.draw(st.sets(st.integers(0, 60), max_size=6))})
    if copies:
        rows = np.insert(rows, [at + 1 for at in copies], rows[copies])
    rows["frame"] = np.arange(1, len(rows) + 1)
    note(ladder(rows))
    plain, end = track(segments)[0], track(rows, cuts=data.draw(st.sets(st.integers(1, len(rows)), max_size=4)))
    assert len(end) == 1
    assert states(end) == [(1, int(plain["client_state"]), int(plain["server_state"]))]
    assert int(end["client_duplicates"][0] + end["server_duplicates"][0]) == len(copies)
    for name in ("client_unique_bytes", "server_unique_bytes"):
        assert end[name][0] == plain[name]


def impossible(client: TcpState, server: TcpState) -> str:
    """Why two ends of one connection cannot be in these states; empty where they can.

    From RFC 9293 section 3.3.2 and figure 5, of a connection that no RST and no timer has ended at one end: a state
    that a peer's segment leads to needs a peer that has sent it.
    """
    S = TcpState
    fin_sent = {S.FIN_WAIT_1, S.FIN_WAIT_2, S.CLOSING, S.LAST_ACK, S.TIME_WAIT, S.CLOSED}
    fin_taken = {S.CLOSE_WAIT, S.CLOSING, S.LAST_ACK, S.TIME_WAIT, S.CLOSED}
    for one, other in ((client, server), (server, client)):
        if one in {S.CLOSE_WAIT, S.CLOSING, S.LAST_ACK, S.TIME_WAIT} and other not in fin_sent:
            return f"{one.name} took a FIN that its peer in {other.name} has not sent"
        if one in {S.FIN_WAIT_2, S.TIME_WAIT} and other not in fin_taken:
            return f"{one.name} knows that its FIN was taken, by a peer in {other.name}"
        if other == S.LISTEN and one not in {S.SYN_SENT, S.CLOSED}:
            return f"{one.name} was answered by a peer in LISTEN"
        if other == S.SYN_SENT and one not in {S.LISTEN, S.SYN_SENT, S.SYN_RECEIVED, S.CLOSED}:
            return f"{one.name} is past a handshake of which its peer in SYN_SENT knows nothing"
    if {client, server} <= {S.LAST_ACK, S.CLOSE_WAIT} or (client, server) == (S.LISTEN, S.LISTEN):
        return "each end waits for the other to have closed first"
    return ""


@SETTINGS
@given(conversations(), st.sets(st.integers(0, 40)))
def test_no_loss_in_the_capture_gives_an_impossible_pair(exchange: Exchange, lost: set[int]) -> None:
    """Any segments of a connection may be missing: what is left tells of states that two ends can be in."""
    segments = exchange.segments()
    left = np.delete(segments, [index for index in lost if index < len(segments)])
    left["frame"] = np.arange(1, len(left) + 1)
    note(ladder(left))
    for client, server in after_each(left):
        assert not impossible(client, server)


@SETTINGS
@given(captures())
def test_both_ends_are_mirror_images(segments: NDArray[np.void]) -> None:
    """With every address and port exchanged, client and server keep their roles where a SYN or SYN+ACK gave them."""
    mirrored = segments.copy()
    for one, other in (("src_ip", "dst_ip"), ("src_port", "dst_port")):
        mirrored[one], mirrored[other] = segments[other], segments[one]
    direct = {row.flow_id: row for row in agreed(track(segments))}
    for row in agreed(track(mirrored)):
        twin = direct.pop(row.flow_id)
        if (row.client, row.server) == (twin.server, twin.client):
            assert row._replace(client=twin.client, server=twin.server) == twin
        else:  # the ports named the client, and still do: what it did, the server does now
            assert (row.client, row.server) == (twin.client, twin.server)
            assert (row.client_state, row.server_state) == (twin.server_state, twin.client_state)
            assert (row.client_since_ts_ns, row.server_packets) == (twin.server_since_ts_ns, twin.client_packets)
    assert not direct


def states(rows: NDArray[np.void]) -> list[tuple[int, int, int]]:
    """Generation and states of each connection."""
    return [(int(row["generation"]), int(row["client_state"]), int(row["server_state"])) for row in rows]
