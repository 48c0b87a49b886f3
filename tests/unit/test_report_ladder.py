"""The ladder's page: columns, widths, times, and what comes from outside."""

from __future__ import annotations

import json

import pytest
from segments import START_NS, Exchange, in_state
from told import tell

from conntrack.report.ladder import flags_text, render_ladder, render_ladder_json
from conntrack.states import TcpState

ESTABLISHED = TcpState.ESTABLISHED


def lines(exchange: Exchange, **options: object) -> list[str]:
    return render_ladder(tell(exchange), files=["x.pcap"], **options).splitlines()


@pytest.mark.parametrize(
    ("bits", "text"), [(0x02, "S"), (0x12, "S."), (0x11, "F."), (0x19, "FP."), (0xC2, "SEW"), (0, "none"), (0x100, "e")]
)
def test_flags_are_tcpdumps(bits: int, text: str) -> None:
    assert flags_text(bits) == text


def test_client_left_server_right() -> None:
    text = lines(Exchange().client("S").server("S."))
    assert any("|-- S ---------->|" in line for line in text)
    assert any("|<--------- S. --|" in line for line in text)


def test_wide_numbers_still_fit() -> None:
    exchange = in_state(ESTABLISHED, ESTABLISHED, client="[2001:db8:aaaa:bbbb:cccc:dddd:eeee:1]:65535",
                        server="[2001:db8:aaaa:bbbb:cccc:dddd:eeee:2]:65534")  # fmt: skip
    for _ in range(9):
        exchange.server("P.", 600_000_000).client(".")
    exchange.wait(9_000_000).client("FSRP.UEW", seq=1).client("P.", 60_000, lost=True).server(".").again(3)
    text = lines(exchange)
    assert max(map(len, text)) <= 80
    assert any("9000000.0" in line for line in text)


def test_a_time_before_the_first_is_negative() -> None:
    exchange = Exchange().client("S", ts_ns=START_NS).server("S.", ts_ns=START_NS - 1_500_000)
    assert any(" -0.001500 " in line for line in lines(exchange))


def test_the_start_is_absolute() -> None:
    assert "  start  2023-11-14T22:13:20.001000000Z" in lines(Exchange().client("S"))
    assert "  start  1700000000.001000000" in lines(Exchange().client("S"), epoch=True)


def test_a_hostile_name_is_escaped_and_broken() -> None:
    names = ["a\x1b[31m\n" + "x" * 300 + "\udcff.pcap"]
    text = render_ladder(tell(Exchange().client("S")), files=names)
    assert "\x1b" not in text
    assert r"a\x1b[31m\n" in text
    assert r"\xff.pcap" in "".join(line.strip() for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 80
    document = json.loads(render_ladder_json(tell(Exchange().client("S")), [{}], files=names))
    assert document["files"] == ["a\x1b[31m\n" + "x" * 300 + "\\xff.pcap"]


def test_what_was_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conntrack.explain.story.MOST_STEPS", 2)
    text = "\n".join(lines(in_state(ESTABLISHED, ESTABLISHED)))
    assert "1 more segment not told" in text


def test_every_end_has_its_sentence() -> None:
    open_ = in_state(ESTABLISHED, ESTABLISHED)
    ends = {
        "Not over when the capture ended.": open_,
        "A RST ended it. The client sent it.": in_state(TcpState.CLOSED, TcpState.CLOSED),
        "Refused: the SYN was answered by a RST.": Exchange().client("S").server("R.", seq=-5_000_000),
        "Both ends closed with a FIN; TIME_WAIT was not over when the capture ended. The client closed first.":
            in_state(TcpState.TIME_WAIT, TcpState.CLOSED),
    }  # fmt: skip
    for sentence, exchange in ends.items():
        assert sentence in " ".join(line.strip() for line in lines(exchange))


def test_json_has_the_numbers_of_the_header_too() -> None:
    document = json.loads(render_ladder_json(tell(Exchange().client("S").server("S.")), [{"a": 1}], files=["x"]))
    (connection,) = document["connections"]
    assert list(document) == ["schema", "files", "connections"]
    assert connection["before"] == {"client": "CLOSED", "server": "LISTEN"}
    first, second = connection["steps"]
    assert (first["seq"], first["ack"], first["relative_seq"], first["relative_ack"]) == (1_000_000, None, 0, None)
    assert second["from"] == "server"
    assert second["flags"] == "S."
    assert second["states"] == {"client": "SYN_SENT", "server": "SYN_RECEIVED"}
    assert second["changes"][0]["evidence"] == "seen"


def test_how_a_state_is_known_is_said_where_it_was_not_seen() -> None:
    inferred = "[3.10.7.3] (inferred: what caused it is not in the capture)"
    missing = Exchange().client("S").server("S.", lost=True).client(".")
    assert inferred in " ".join(line.strip() for line in lines(missing))
    whole = Exchange().client("S").server("S.").client(".")
    assert "inferred" not in " ".join(lines(whole))


def test_what_is_to_be_known_of_a_connection_is_said_first() -> None:
    exchange = in_state(ESTABLISHED, ESTABLISHED).wait(100).reopen(40_000_000, 70_000_000).client("S").server("S.")
    text = " ".join(line.strip() for line in lines(exchange.client(".")))
    assert "Its SYN came while connection 1 was alive and is told there, as a pending SYN." in text


def test_json_has_what_is_folded_as_one_step() -> None:
    exchange = in_state(ESTABLISHED, ESTABLISHED)
    for _ in range(50):
        exchange.server("P.", 1000).client(".")
    (connection,) = json.loads(render_ladder_json(tell(exchange), [{}], files=["x"]))["connections"]
    (folded,) = [step for step in connection["steps"] if step["kind"] == "folded"]
    assert folded["segments"] == {"client": 47, "server": 47}
    assert folded["payload_bytes"] == {"client": 0, "server": 47_000}
    assert folded["last_frame"] - folded["first_frame"] == 93
