"""What segments are told to be that come seldom: answers to nothing, resets that do not count, FINs out of place."""

from __future__ import annotations

import pytest
from segments import Exchange, in_state
from told import tell, words

from conntrack.states import TcpState

ESTABLISHED = TcpState.ESTABLISHED


def opened() -> Exchange:
    return in_state(ESTABLISHED, ESTABLISHED)


def begun() -> Exchange:
    return Exchange().client("S")


def midway() -> Exchange:
    return Exchange().client("P.", 10, seq=5, ack=6)


OPENING = "; window 64000 mss 1460 wscale 0"
PENDING = "pending SYN: another initial number, the connection lives"
IGNORED = "RST, ignored: does not acknowledge the SYN"

LAST = {
    "Fast Open": (Exchange().client("S", 100), [f"SYN{OPENING}; with data (Fast Open)"]),
    "Fast Open, taken": (
        Exchange().client("S", 100).server("S.", ack=101),
        [f"SYN+ACK{OPENING}; takes the data of the SYN"],
    ),
    "Fast Open, not taken": (
        Exchange().client("S", 100).server("S.", ack=1),
        [f"SYN+ACK{OPENING}; does not take the data of the SYN"],
    ),
    "the SYN behind its answer": (
        Exchange().server("S.", ack=1).client("S", seq=0),
        [f"SYN{OPENING}; comes after its answer in the capture"],
    ),
    "a SYN of the server's, into the connection": (opened().server("S", seq=700), [PENDING]),
    "a SYN of the server's behind its SYN+ACK": (begun().server("S.").server("S", seq=77), [PENDING]),
    "a SYN+ACK of nothing": (
        begun().server("S.", ack=90_000),
        ["SYN+ACK that answers no SYN of this connection"],
    ),
    "a SYN+ACK with another number, too late": (
        opened().server("S.", seq=77),
        ["SYN+ACK with another initial number: ignored"],
    ),
    "a RST alone": (Exchange().server("R.", seq=1, ack=1), ["RST"]),
    "RSTs without the number of the SYN": (
        begun().server("R", seq=1).server("R.", seq=1, ack=70_000),
        [IGNORED, IGNORED],
    ),
    "a RST of one whose peer is not in the capture": (midway().client("R", seq=999), ["RST"]),
    "a RST beyond a hole": (
        opened().client("P.", 100, seq=201).client("R", seq=301),
        ["out of order: 200 bytes missing before it", "RST"],
    ),
    "a RST at the hole behind one that was filled": (
        opened().client("P.", 100, seq=201).client("P.", 100, seq=401).client("P.", 300, seq=1).client("R", seq=501),
        ["fills part of a hole; partial overlap: 100 bytes again", "RST"],
    ),
    "pieces that overlap pieces": (
        opened().client("P.", 100, seq=101).client("P.", 100, seq=301).client("P.", 500, seq=101),
        ["out of order: 100 bytes missing before it; partial overlap: 200 bytes again"],
    ),
    "no room, and room again, with data": (
        opened().server("P.", 10, window=0).server("P.", 10, window=500),
        ["data; zero window", "data; window open again"],
    ),
    "an old ACK": (opened().client("P.", 100).server(".").server(".", ack=50), ["ACK", "old ACK"]),
    "a FIN before what was sent": (
        opened().client("P.", 100).client("F.", seq=20),
        ["FIN that cannot be: left out"],
    ),
    "another FIN": (opened().client("F.").client("F.", seq=50), ["FIN", "FIN again; beyond the FIN: left out"]),
    "data behind the FIN": (opened().client("F.").client("P.", 100), ["FIN", "beyond the FIN: left out"]),
    "a FIN that had come": (opened().client("F.").server(".").again(3), ["FIN again; had been acknowledged"]),
    "a FIN as the capture begins": (
        Exchange().client("FP.", 30, seq=5, ack=6),
        ["FIN; data; the capture began midway"],
    ),
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_segments_are_told_so(name: str) -> None:
    exchange, told = LAST[name]
    (story,) = tell(exchange)
    assert words(story)[-len(told) :] == told


def test_what_comes_after_the_end_is_of_no_effect() -> None:
    """A RST into TIME_WAIT is known for what it is, and changes only who holds it."""
    (story,) = tell(in_state(TcpState.TIME_WAIT, TcpState.CLOSED).server("R", seq=2))
    assert words(story)[-2:] == ["ACK of FIN", "RST"]
