"""The kernel's counters as it prints them, and as it does not."""

from __future__ import annotations

import random

from conntrack.host.counters import counters, parse_counters, parse_statistics, settings

SNMP = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoAlgorithm MaxConn ActiveOpens RetransSegs\nTcp: 1 -1 4321 17\n"
STATISTICS = (
    "entries  found drop early_drop\n00000010  00000001 0000000a 00000000\n00000010  00000002 00000006 00000001\n"
)


def test_names_above_values() -> None:
    found = parse_counters(SNMP)
    assert found == {
        "Ip.Forwarding": 1,
        "Ip.DefaultTTL": 64,
        "Tcp.RtoAlgorithm": 1,
        "Tcp.MaxConn": -1,
        "Tcp.ActiveOpens": 4321,
        "Tcp.RetransSegs": 17,
    }


def test_lines_that_do_not_fit_are_left_out() -> None:
    assert parse_counters("") == {}
    assert parse_counters("Tcp: A B\nUdp: 1 2\nTcp: C D\nTcp: 3\n") == {"Tcp.C": 3}
    assert parse_counters("Tcp: A B C\nTcp: 1 two 3\n") == {"Tcp.A": 1, "Tcp.C": 3}


def test_processors_are_added_up() -> None:
    assert parse_statistics(STATISTICS) == {"entries": 32, "found": 3, "drop": 16, "early_drop": 1}
    assert parse_statistics("") == {}
    assert parse_statistics("drop\nnothing\n00000001\n") == {"drop": 1}


def test_nothing_that_is_printed_raises() -> None:
    chance = random.Random(3)
    for _ in range(2_000):
        text = list(SNMP + STATISTICS)
        for _ in range(8):
            text[chance.randrange(len(text))] = chance.choice(" \n:x0é٣-")
        parse_counters("".join(text))
        parse_statistics("".join(text))


def test_this_host_has_what_the_findings_need() -> None:
    found = counters()
    for name in (
        "Tcp.RetransSegs",
        "Tcp.OutSegs",
        "Tcp.EstabResets",
        "TcpExt.ListenOverflows",
        "TcpExt.SyncookiesSent",
    ):
        assert found[name] >= 0
    known = settings()
    assert len(known["net.ipv4.ip_local_port_range"]) == 2
    assert known["net.core.somaxconn"][0] > 0
