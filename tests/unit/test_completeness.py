"""The column completeness: Wireshark's tcp.completeness, by the rules of its packet-tcp.c."""

from __future__ import annotations

import pytest
from segments import Exchange
from tracked import row_of

SYN, SYN_ACK, ACK, DATA, FIN, RST = 1, 2, 4, 8, 16, 32


def opened() -> Exchange:
    return Exchange().client("S").server("S.").client(".")


@pytest.mark.parametrize(
    ("exchange", "bits"),
    [
        (Exchange().client("S"), SYN),
        (opened(), SYN | SYN_ACK | ACK),
        (opened().client("P.", payload=5), SYN | SYN_ACK | ACK | DATA),
        (Exchange().client("S", payload=5), SYN | DATA),
        (Exchange().client("S").server("S.", payload=5), SYN | SYN_ACK),
        (Exchange().client("S").server("R."), SYN | ACK | RST),
        (Exchange().client("S").server("R"), SYN | RST),
        (Exchange().client("S").server("S.").client("F."), SYN | SYN_ACK | ACK | FIN),
        (Exchange().client("S").server("S.").client("FP.", payload=5), SYN | SYN_ACK | DATA | FIN),
        (Exchange().client("S").client("S").server("S.").client("."), SYN | SYN_ACK | ACK),
    ],
    ids=[
        "SYN",
        "handshake",
        "data",
        "data in the SYN",
        "data in the SYN+ACK does not count",
        "the RST that refuses has an ACK",
        "this RST has none",
        "a bare FIN is an ACK",
        "a FIN with data is not",
        "the ACK after a retransmission",
    ],
)
def test_bits(exchange: Exchange, bits: int) -> None:
    assert row_of(exchange)["completeness"] == bits


def test_simultaneous_open_counts_the_clients_syn_ack() -> None:
    exchange = Exchange().client("S").server("S", ack=0).client("S.", seq=0).server(".")
    assert row_of(exchange)["completeness"] & (SYN | SYN_ACK) == SYN | SYN_ACK
