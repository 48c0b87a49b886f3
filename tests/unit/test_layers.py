"""Every link, tag and tunnel that a segment may be wrapped in: decoded, cut at each byte, with hostile lengths."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from frames import ACK, eth_ipv4_tcp, ethernet, ipv4, ipv6, tcp
from layers import (
    INNER4,
    INNER6,
    geneve,
    gre,
    gtp,
    l2tp,
    mpls,
    pptp,
    radiotap,
    snap,
    udp,
    vxlan,
    wlan,
)
from wrapped import FRAME4, LINKS, TAGGED, TEREDO, TUNNELS, over_ip, over_udp

from conntrack.capture.paths import Paths
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.decode import Outcome, decode


def told(frame: bytes, link_type: int = 1, on_wire: int | None = None) -> tuple[Outcome, np.void, str]:
    record = np.zeros(1, SEGMENT_DTYPE)
    paths = Paths()
    outcome = decode(frame, record, link_type, on_wire, paths.memory)
    return outcome, record[0], paths[int(record["path"][0])]


def outcome_of(frame: bytes, link_type: int = 1, on_wire: int | None = None) -> Outcome:
    return decode(frame, np.zeros(1, SEGMENT_DTYPE), link_type, on_wire)


def check_cuts(frame: bytes, link_type: int, headers: int) -> None:
    """No cut before the end of the TCP header gives a segment, and most say why."""
    for size in range(headers):
        outcome = outcome_of(frame[:size], link_type, len(frame))
        assert outcome in (Outcome.CUT_SHORT_HEADER, Outcome.UDP, Outcome.NOT_IP), (size, outcome)
    assert outcome_of(frame[:headers], link_type, len(frame)) == Outcome.TCP
    for size in range(headers):  # and of a frame that was no longer: nothing but no segment
        assert outcome_of(frame[:size], link_type) != Outcome.TCP


def check_segment(segment: np.void, frame: bytes) -> None:
    assert (segment["src_port"], segment["dst_port"], segment["payload_bytes"]) == (1111, 2222, 3)
    assert (segment["wire_bytes"], segment["flags"]) == (len(frame), ACK)
    last = (1, 2)
    assert (segment["src_ip"][15], segment["dst_ip"][15]) == last
    assert segment["src_ip"][0] == (0 if segment["ip_version"] == 4 else 0xFD if segment["src_ip"][0] == 0xFD else 0x20)


@pytest.mark.parametrize(("link_type", "frame"), LINKS)
def test_links(link_type: int, frame: bytes) -> None:
    outcome, segment, path = told(frame, link_type)
    assert outcome == Outcome.TCP, outcome.name
    check_segment(segment, frame)
    tags = {51: ("ppp_ether/pppoe 42", 42)}
    expected = tags.get(link_type, ("", 0))
    assert (path.replace("ieee802_11_", "").split("/wlan")[0] if "wlan" not in path else "", segment["tag"]) == expected
    check_cuts(frame, link_type, frame.rindex(b"abc"))


@pytest.mark.parametrize(("frame", "path", "tag"), TAGGED + TUNNELS)
def test_tags_and_tunnels(frame: bytes, path: str, tag: int) -> None:
    outcome, segment, found = told(frame)
    assert outcome == Outcome.TCP, outcome.name
    check_segment(segment, frame)
    assert (found, segment["tag"]) == (path, tag)
    check_cuts(frame, 1, frame.rindex(b"abc"))


@pytest.mark.parametrize(("frame", "path", "tag"), TAGGED + TUNNELS)
def test_any_byte_of_a_header_may_be_anything(frame: bytes, path: str, tag: int) -> None:
    """With each byte of the headers at its extremes: an Outcome, and a segment only with lengths that fit."""
    for at in range(12, frame.rindex(b"abc")):
        for value in (0, 1, 0x7F, 0x80, 0xFF, frame[at] ^ 1):
            changed = frame[:at] + bytes([value]) + frame[at + 1 :]
            record = np.zeros(1, SEGMENT_DTYPE)
            outcome = decode(changed, record)
            assert outcome < Outcome.OUTCOMES
            assert outcome != Outcome.TCP or record["payload_bytes"][0] < 65536


class TestWireless:
    @pytest.mark.parametrize(
        ("frame", "outcome"),
        [
            (wlan(snap(INNER4), flags=0x41), Outcome.ENCRYPTED_LINK),
            (wlan(snap(INNER4), subtype=4), Outcome.NOT_IP),
            (wlan(snap(INNER4), subtype=12), Outcome.NOT_IP),
            (b"\x80\x00" + bytes(40), Outcome.NOT_IP),
            (wlan(snap(INNER4), fragment=1), Outcome.IP_FRAGMENT),
            (wlan(snap(b"", 0x888E)), Outcome.NOT_IP),
        ],
        ids=["encrypted", "null", "qos null", "beacon", "later fragment", "802.1X"],
    )
    def test_counted(self, frame: bytes, outcome: Outcome) -> None:
        assert outcome_of(frame, 105) == outcome
        assert outcome_of(radiotap(frame, flags=0), 127) == outcome

    def test_a_radiotap_header_longer_than_the_frame(self) -> None:
        assert outcome_of(b"\x00\x00\xff\xff\x00\x00\x00\x00" + wlan(snap(INNER4)), 127) == Outcome.CUT_SHORT_HEADER
        assert outcome_of(b"\x00\x00\x04\x00\x00\x00\x00\x00" + wlan(snap(INNER4)), 127) == Outcome.NOT_IP

    def test_present_words_without_end(self) -> None:
        assert outcome_of(b"\x00\x00\x20\x00" + b"\xff" * 28 + wlan(snap(INNER4)), 127) == Outcome.TCP


class TestTunnelsThatAreNone:
    """A UDP tunnel is a guess: what does not hold in every part is UDP."""

    @pytest.mark.parametrize(
        "frame",
        [
            over_udp(vxlan(FRAME4), 4788),
            over_udp(vxlan(FRAME4, flags=0), 4789),
            over_udp(vxlan(FRAME4, flags=0x08000001), 4789),
            over_udp(vxlan(FRAME4)[:7] + b"\x01" + FRAME4, 4789),
            over_udp(vxlan(ethernet(INNER4, 0x0801)), 4789),
            over_udp(vxlan(ethernet(b"\x55" + INNER4[1:])), 4789),
            over_udp(vxlan(ethernet(ipv4(tcp(), total_length=41))), 4789),
            over_udp(vxlan(ethernet(ipv4(tcp(data_offset=6)))), 4789),
            over_udp(vxlan(ethernet(ipv4(tcp(data_offset=4)))), 4789),
            over_udp(vxlan(ethernet(ipv6(tcp(), payload_length=21), 0x86DD)), 4789),
            over_udp(vxlan(INNER4, flags=0x0C000004), 4790),
            over_udp(b"\x40" + geneve(FRAME4)[1:], 6081),
            over_udp(geneve(FRAME4, protocol=0x0806), 6081),
            over_udp(b"\x3f" + geneve(FRAME4)[1:], 6081),
            over_udp(geneve(FRAME4)[:1] + b"\x80" + geneve(FRAME4)[2:], 6081),
            over_udp(gtp(INNER4, kind=254), 2152),
            over_udp(gtp(INNER4, flags=0x20), 2152),
            over_udp(gtp(INNER4) + b"x", 2152),
            over_udp(gtp(INNER4 + b"x"), 2152),
            over_udp(gtp(INNER4, flags=0x34, extra=b"\x00\x00\x00\x85\x00\x00\x00\x00"), 2152),
            over_udp(TEREDO + b"x", 3544),
            over_udp(INNER6, 3544),
            over_udp(b"\x00\x01\xff\xff" + TEREDO, 3544),
            over_udp(l2tp(b"\x00\x21" + INNER4, flags=0xC002), 1701),
            over_udp(l2tp(b"\x00\x21" + INNER4, flags=0x4003), 1701),
            over_udp(l2tp(b"\x00\x21" + INNER4 + b"x"), 1701),
            over_udp(l2tp(b"\x00\x21" + INNER4, flags=0x0202, rest=b"\xff\xff"), 1701),
            over_udp(mpls(b"\x50" + INNER4, 3), 6635),
            ethernet(ipv4(udp(vxlan(FRAME4), 4789, length=7), protocol=17)),
            ethernet(ipv4(udp(vxlan(FRAME4), 4789, length=9999), protocol=17)),
        ],
    )
    def test_is_udp(self, frame: bytes) -> None:
        assert outcome_of(frame) == Outcome.UDP

    @pytest.mark.parametrize("port", [1701, 2152, 3544, 4789, 4790, 6081, 6635, 8472])
    def test_random_datagrams_to_a_tunnels_port(self, port: int) -> None:
        chance = np.random.default_rng(port)
        for _ in range(2000):
            payload = chance.bytes(int(chance.integers(0, 200)))
            assert outcome_of(over_udp(payload, port)) in (Outcome.UDP, Outcome.CUT_SHORT_HEADER)

    def test_what_else_a_tunnel_carries_is_counted_as_that(self) -> None:
        assert told(over_udp(vxlan(ethernet(bytes(46), 0x0806)), 4789))[0] == Outcome.ARP
        assert told(over_udp(vxlan(ethernet(ipv4(b"", protocol=1))), 4789))[0] == Outcome.ICMP


class TestOtherTunnels:
    @pytest.mark.parametrize(
        "payload",
        [
            gre(INNER4)[:1] + b"\x02" + gre(INNER4)[2:],
            gre(b"x" * 40, 0x0001),
            b"\x00\x01" + pptp(b"\x21" + INNER4)[2:],
            pptp(b""),
            struct.pack(">HHHH", 0x2001, 0x0800, 0, 7) + INNER4,
        ],
        ids=["version 2", "no EtherType", "PPTP without key", "PPTP's acknowledgement", "PPTP without PPP"],
    )
    def test_gre_of_another_kind(self, payload: bytes) -> None:
        assert outcome_of(over_ip(payload, 47)) in (Outcome.IP_TUNNEL, Outcome.CUT_SHORT_HEADER)

    def test_etherip_of_another_version(self) -> None:
        assert outcome_of(over_ip(b"\x20\x00" + FRAME4, 97)) == Outcome.IP_TUNNEL

    def test_depth_has_a_limit(self) -> None:
        packet = INNER4
        for _ in range(30):
            packet = ipv4(packet, protocol=4)
        assert outcome_of(ethernet(packet)) == Outcome.TCP
        assert outcome_of(ethernet(ipv4(packet, protocol=4))) == Outcome.TOO_DEEP

    def test_a_wrapper_within_a_wrapper_is_refused(self) -> None:
        head = struct.pack("<BBHI", 0, 0, 8, 192)
        assert outcome_of(head * 1000 + eth_ipv4_tcp(), 192) == Outcome.NOT_IP

    def test_the_shortest_cut_says_what_is_known(self) -> None:
        assert outcome_of(over_ip(gre(INNER4), 47)[:36], on_wire=90) == Outcome.CUT_SHORT_HEADER
        assert outcome_of(over_ip(b"\x00\x00\x08\x00", 47)) == Outcome.IP_TUNNEL
