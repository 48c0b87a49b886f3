"""One frame at a time through core.decode: every link layer, both IPs, the TCP header and its options, every reason."""

from __future__ import annotations

import ipaddress
import struct

import numpy as np
import pytest
from frames import (
    ACK,
    FIN,
    NOP,
    PSH,
    RST,
    SYN,
    eth_ipv4_tcp,
    eth_ipv6_tcp,
    ethernet,
    ipv4,
    ipv6,
    mss,
    sack,
    sack_permitted,
    tcp,
    timestamps,
    window_scale,
)

from conntrack.capture.linklayer import LINK_TYPES, REASONS, link_type_name
from conntrack.core import abi
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.decode import Outcome, decode

IP4 = ipv4(tcp())
IP6 = ipv6(tcp())


def segment_of(frame: bytes, link_type: int = 1, on_wire: int | None = None) -> np.void:
    record = np.frombuffer(b"\xa5" * SEGMENT_DTYPE.itemsize, SEGMENT_DTYPE).copy()  # nothing left of a row used before
    outcome = decode(frame, record, link_type, on_wire)
    assert outcome == Outcome.TCP, outcome.name
    return record[0]


def outcome_of(frame: bytes, link_type: int = 1, on_wire: int | None = None) -> Outcome:
    return decode(frame, np.zeros(1, SEGMENT_DTYPE), link_type, on_wire)


class TestTheStraightLine:
    def test_every_field_of_an_ipv4_segment(self) -> None:
        frame = eth_ipv4_tcp(
            "192.0.2.1",
            0x1234,
            "198.51.100.7",
            443,
            ACK | PSH,
            seq=0xFFFFFFFE,
            ack=0x80000001,
            payload=b"x" * 1000,
            window=4321,
            ttl=57,
            ip_id=0xBEEF,
        )
        segment = segment_of(frame)
        assert bytes(segment["src_ip"]) == ipaddress.IPv6Address("::ffff:192.0.2.1").packed
        assert bytes(segment["dst_ip"]) == ipaddress.IPv6Address("::ffff:198.51.100.7").packed
        expected = {
            "src_port": 0x1234, "dst_port": 443, "flags": ACK | PSH, "seq": 0xFFFFFFFE, "ack": 0x80000001,
            "payload_bytes": 1000, "wire_bytes": 1054, "window": 4321, "ttl": 57, "ip_id": 0xBEEF, "ip_version": 4,
            "tsval": 0, "tsecr": 0, "mss": 0, "window_scale": 255, "options": 0,
        }  # fmt: skip
        assert {name: int(segment[name]) for name in expected} == expected
        assert not segment["pad0"].any()

    def test_every_field_of_an_ipv6_segment(self) -> None:
        segment = segment_of(eth_ipv6_tcp("2001:db8::a", 1, "fe80::b", 65535, FIN | ACK, payload=b"abc"))
        assert bytes(segment["src_ip"]) == ipaddress.IPv6Address("2001:db8::a").packed
        assert bytes(segment["dst_ip"]) == ipaddress.IPv6Address("fe80::b").packed
        expected = {"ip_version": 6, "ttl": 64, "ip_id": 0, "payload_bytes": 3, "wire_bytes": 77, "dst_port": 65535}
        assert {name: int(segment[name]) for name in expected} == expected

    def test_the_ack_number_counts_only_with_the_flag(self) -> None:
        assert segment_of(eth_ipv4_tcp(flags=SYN, ack=77))["ack"] == 0
        assert segment_of(eth_ipv4_tcp(flags=SYN | ACK, ack=77))["ack"] == 77

    def test_all_nine_flags(self) -> None:
        for bit in range(9):
            assert segment_of(ethernet(ipv4(tcp(flags=1 << bit))))["flags"] == 1 << bit

    def test_checksums_are_not_asked_for(self) -> None:
        assert IP4[10:12] == b"\x00\x00" and IP4[36:38] == b"\x00\x00"
        assert outcome_of(ethernet(IP4)) == Outcome.TCP


class TestLengths:
    def test_padding_is_not_payload(self) -> None:
        assert segment_of(eth_ipv4_tcp() + b"\x00" * 6)["payload_bytes"] == 0
        assert segment_of(eth_ipv6_tcp() + b"\x00" * 6)["payload_bytes"] == 0

    def test_a_snap_length_does_not_shorten_the_payload(self) -> None:
        frame = eth_ipv4_tcp(payload=b"x" * 1400)
        segment = segment_of(frame[:54], on_wire=len(frame))
        assert (segment["payload_bytes"], segment["wire_bytes"]) == (1400, 1454)

    @pytest.mark.parametrize(
        "ip", [ipv4(tcp(payload=b"x" * 3000), total_length=0), ipv6(tcp(payload=b"x" * 3000), payload_length=0)]
    )
    def test_an_ip_length_of_0_is_the_length_on_the_wire(self, ip: bytes) -> None:
        frame = ethernet(ip, 0x0800 if ip[0] >> 4 == 4 else 0x86DD)
        assert segment_of(frame)["payload_bytes"] == 3000
        assert segment_of(frame[:100], on_wire=len(frame))["payload_bytes"] == 3000

    @pytest.mark.parametrize(
        ("frame", "headers"), [(eth_ipv4_tcp(), 54), (eth_ipv6_tcp(), 74), (eth_ipv4_tcp(vlans=[(0x8100, 5)]), 58)]
    )
    def test_a_frame_cut_anywhere_in_its_headers_is_counted(self, frame: bytes, headers: int) -> None:
        assert len(frame) == headers
        for size in range(headers):
            assert outcome_of(frame[:size], on_wire=headers) == Outcome.CUT_SHORT_HEADER, size

    def test_options_cut_by_the_snap_length(self) -> None:
        options = mss(1460) + NOP + window_scale(7) + timestamps(1, 2)
        frame = eth_ipv4_tcp(flags=SYN, options=options)
        for size in range(54, len(frame)):
            segment = segment_of(frame[:size], on_wire=len(frame))
            assert segment["options"] & abi.OPTIONS_CUT
            assert segment["mss"] == (1460 if size >= 58 else 0)
            assert segment["window_scale"] == (7 if size >= 62 else 255)
            assert segment["payload_bytes"] == 0


class TestBadHeaders:
    @pytest.mark.parametrize(
        "ip",
        [
            ipv4(tcp(), version_ihl=0x44),
            ipv4(tcp(), version_ihl=0x65),
            ipv4(tcp(), total_length=19),
            ipv4(tcp(), version_ihl=0x4F, total_length=40),
        ],
    )
    def test_bad_ipv4(self, ip: bytes) -> None:
        assert outcome_of(ethernet(ip)) == Outcome.BAD_IP_HEADER

    def test_bad_ipv6(self) -> None:
        assert outcome_of(ethernet(IP4 + b"\x00" * 20, 0x86DD)) == Outcome.BAD_IP_HEADER
        too_long = ipv6(tcp(), extensions=[(0, b"\x09" + b"\x00" * 6)])
        assert outcome_of(ethernet(too_long, 0x86DD)) == Outcome.BAD_IP_HEADER

    @pytest.mark.parametrize("data_offset", [0, 1, 4, 6, 15])
    def test_data_offset_outside_of_the_segment(self, data_offset: int) -> None:
        assert outcome_of(ethernet(ipv4(tcp(data_offset=data_offset)))) == Outcome.BAD_TCP_HEADER

    def test_an_ip_length_too_short_for_tcp(self) -> None:
        assert outcome_of(ethernet(ipv4(tcp(), total_length=39))) == Outcome.BAD_TCP_HEADER


class TestOptions:
    def test_those_of_a_syn(self) -> None:
        options = mss(1460) + sack_permitted() + timestamps(0xFFFFFFFF, 0) + NOP + window_scale(7)
        segment = segment_of(eth_ipv4_tcp(flags=SYN, options=options))
        assert (segment["mss"], segment["window_scale"], segment["tsval"]) == (1460, 7, 0xFFFFFFFF)
        assert segment["options"] == abi.HAS_SACK_PERMITTED | abi.HAS_TIMESTAMP

    def test_those_of_a_syn_mean_nothing_elsewhere(self) -> None:
        segment = segment_of(eth_ipv4_tcp(flags=ACK, options=mss(1460) + sack_permitted() + window_scale(7)))
        assert (segment["mss"], segment["window_scale"], segment["options"]) == (0, 255, 0)

    def test_timestamps_in_the_usual_layout_and_in_another(self) -> None:
        for options in (NOP + NOP + timestamps(5, 6), timestamps(5, 6) + NOP + NOP, timestamps(5, 6)):
            segment = segment_of(eth_ipv4_tcp(options=options))
            assert (segment["tsval"], segment["tsecr"], segment["options"]) == (5, 6, abi.HAS_TIMESTAMP)

    def test_sack_next_to_timestamps(self) -> None:
        segment = segment_of(eth_ipv4_tcp(options=NOP + NOP + timestamps(5, 6) + NOP + NOP + sack((1, 2), (3, 4))))
        assert segment["options"] == abi.HAS_TIMESTAMP | abi.HAS_SACK

    @pytest.mark.parametrize(
        "option", [b"\x22\x02", b"\x22\x0a12345678", b"\xfe\x04\xf9\x89", b"\xfe\x0c\xf9\x8912345678"]
    )
    def test_fast_open(self, option: bytes) -> None:
        assert segment_of(eth_ipv4_tcp(flags=SYN, options=option))["options"] == abi.HAS_FAST_OPEN

    def test_another_experiment_is_not_fast_open(self) -> None:
        assert segment_of(eth_ipv4_tcp(flags=SYN, options=b"\xfe\x04\xe2\xd4"))["options"] == 0

    def test_window_scale_is_at_most_14(self) -> None:
        assert segment_of(eth_ipv4_tcp(flags=SYN, options=window_scale(200)))["window_scale"] == 14

    @pytest.mark.parametrize(
        "bad",
        [b"\x08\x00", b"\x08\x01", b"\x63\xff", b"\x00", b"\x02\x05"],
        ids=["length 0", "length 1", "past the end", "end of options", "longer than the rest"],
    )
    def test_what_stops_the_reading(self, bad: bytes) -> None:
        segment = segment_of(eth_ipv4_tcp(flags=SYN, options=(NOP + NOP + bad).ljust(4, b"\x00") + mss(1460)))
        assert segment["mss"] == 0

    def test_an_option_of_a_wrong_length_is_stepped_over(self) -> None:
        segment = segment_of(eth_ipv4_tcp(flags=SYN, options=b"\x02\x03\x05" + b"\x05\x05abc" + mss(1200)))
        assert (segment["mss"], segment["options"]) == (1200, 0)


class TestLinkLayers:
    @pytest.mark.parametrize(
        ("link_type", "header", "ip"),
        [
            (0, struct.pack("<I", 2), IP4),
            (0, struct.pack(">I", 2), IP4),
            (0, struct.pack("<I", 30), IP6),
            (0, struct.pack("<I", 24), IP6),
            (0, struct.pack(">I", 28), IP6),
            (0, struct.pack("<I", 10), IP6),
            (108, struct.pack(">I", 2), IP4),
            (108, struct.pack(">I", 24), IP6),
            (9, b"\xff\x03\x00\x21", IP4),
            (9, b"\x00\x57", IP6),
            (9, b"\x21", IP4),
            (50, b"\xff\x03\x00\x21", IP4),
            (50, b"\xff\x03\x57", IP6),
            (12, b"", IP4),
            (14, b"", IP6),
            (101, b"", IP4),
            (101, b"", IP6),
            (228, b"", IP4),
            (229, b"", IP6),
            (113, b"\x00\x00\x00\x01\x00\x06" + b"\x00" * 8 + b"\x08\x00", IP4),
            (113, b"\x00\x00\x00\x01\x00\x06" + b"\x00" * 8 + b"\x81\x00\x00\x05\x86\xdd", IP6),
            (276, b"\x08\x00" + b"\x00" * 18, IP4),
            (276, b"\x86\xdd" + b"\x00" * 18, IP6),
            (1, b"\x00" * 12 + b"\x00\x46\xaa\xaa\x03\x00\x00\x00\x08\x00", IP4),
        ],
    )
    def test_decoded(self, link_type: int, header: bytes, ip: bytes) -> None:
        frame = header + ip
        segment = segment_of(frame, link_type)
        assert (segment["src_port"], segment["dst_port"], segment["payload_bytes"]) == (40000, 80, 0)
        assert (segment["ip_version"], segment["wire_bytes"]) == (ip[0] >> 4, len(frame))
        for size in range(len(frame)):
            assert outcome_of(frame[:size], link_type, len(frame)) in (Outcome.CUT_SHORT_HEADER, Outcome.NOT_IP)

    @pytest.mark.parametrize(
        "vlans", [[(0x8100, 1)], [(0x88A8, 1), (0x8100, 2)], [(0x9100, 1), (0x9100, 2), (0x8100, 3), (0x8100, 4)]]
    )
    def test_any_stack_of_vlan_tags(self, vlans: list[tuple[int, int]]) -> None:
        ends = [(kind, number) for kind, number in vlans]
        frame = ethernet(IP4, 0x0800, ends)
        assert segment_of(frame)["payload_bytes"] == 0
        assert segment_of(ethernet(IP6, 0x86DD, ends))["ip_version"] == 6

    def test_there_is_an_end_to_them(self) -> None:
        assert outcome_of(ethernet(IP4, 0x0800, [(0x8100, 1)] * 30)) == Outcome.TCP
        assert outcome_of(ethernet(IP4, 0x0800, [(0x8100, 1)] * 31)) == Outcome.TOO_DEEP
        assert outcome_of(ethernet(b"\x00\x01\x81\x00" * 1000, 0x8100)) == Outcome.TOO_DEEP

    def test_the_others_are_counted(self) -> None:
        for link_type in (2, 147, 189, 65535):
            assert outcome_of(eth_ipv4_tcp(), link_type) == Outcome.UNSUPPORTED_LINK_TYPE


class TestReasons:
    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            (ethernet(b"\x00" * 46, 0x0806), Outcome.ARP),
            (ethernet(b"\x00" * 46, 0x88CC), Outcome.NOT_IP),
            (ethernet(b"\x42\x42\x03" + b"\x00" * 43, 38), Outcome.NOT_IP),
            (ethernet(b"\x00\x01\x01\xff" + b"\x50" + IP4, 0x8847), Outcome.MPLS),
            (ethernet(b"\x11\x09\x00\x00\x00\x04\x01\x01\x00\x00", 0x8863), Outcome.PPPOE),
            (ethernet(b"\x11\x01\x00\x01\x00\x2a\x00\x21" + IP4, 0x8864), Outcome.PPPOE),
            (ethernet(ipv4(tcp(), protocol=17)), Outcome.UDP),
            (ethernet(ipv4(tcp(), protocol=1)), Outcome.ICMP),
            (ethernet(ipv6(tcp(), protocol=58), 0x86DD), Outcome.ICMP),
            (ethernet(ipv4(tcp(), protocol=132)), Outcome.SCTP),
            (ethernet(ipv4(IP4, protocol=115)), Outcome.IP_TUNNEL),
            (ethernet(ipv4(IP4, protocol=50)), Outcome.ESP),
            (ethernet(ipv4(IP4, protocol=89)), Outcome.OTHER_IP_PROTOCOL),
            (ethernet(ipv6(b"", protocol=59), 0x86DD), Outcome.OTHER_IP_PROTOCOL),
            (b"", Outcome.CUT_SHORT_HEADER),
        ],
    )
    def test_counted_as(self, frame: bytes, reason: Outcome) -> None:
        assert outcome_of(frame) == reason

    def test_each_has_words(self) -> None:
        reasons = [outcome for outcome in Outcome if outcome not in (Outcome.TCP, Outcome.OUTCOMES)]
        assert list(REASONS) == reasons
        assert all(REASONS.values())
        assert [int(reason) for reason in reasons] == list(range(1, Outcome.OUTCOMES))

    def test_the_named_link_types_are_those_that_are_decoded(self) -> None:
        decoded = {
            link_type for link_type in range(1024) if outcome_of(b"", link_type) != Outcome.UNSUPPORTED_LINK_TYPE
        }
        assert set(LINK_TYPES) == decoded
        assert (link_type_name(1), link_type_name(147), link_type_name(999)) == ("ETHERNET", "USER0", "link type 999")


class TestExtensionHeaders:
    HOP = (0, b"\x00" + b"\x01\x04\x00\x00\x00\x00")
    DESTINATION = (60, b"\x01" + b"\x01\x0c" + b"\x00" * 12)
    ROUTING = (43, b"\x02\x00\x00" + b"\x00" * 20)
    AUTHENTICATION = (51, b"\x04" + b"\x00" * 22)
    MOBILITY = (135, b"\x00" + b"\x00" * 6)
    HIP = (139, b"\x04" + b"\x00" * 38)
    SHIM6 = (140, b"\x00" + b"\x80" + b"\x00" * 5)
    ATOMIC_FRAGMENT = (44, b"\x00" * 7)

    @pytest.mark.parametrize(
        "extensions",
        [
            [HOP],
            [DESTINATION],
            [ROUTING],
            [AUTHENTICATION],
            [MOBILITY],
            [HIP],
            [SHIM6],
            [ATOMIC_FRAGMENT],
            [HOP, ROUTING, DESTINATION, AUTHENTICATION, DESTINATION],
            [HOP] * 40,
        ],
    )
    def test_are_walked(self, extensions: list[tuple[int, bytes]]) -> None:
        frame = ethernet(ipv6(tcp(payload=b"abc"), extensions=extensions), 0x86DD)
        assert segment_of(frame)["payload_bytes"] == 3
        for size in range(54, len(frame) - 3):
            assert outcome_of(frame[:size], on_wire=len(frame)) in (Outcome.CUT_SHORT_HEADER, Outcome.TCP)

    def test_authentication_over_ipv4(self) -> None:
        ip = ipv4(b"\x06\x04" + b"\x00" * 22 + tcp(payload=b"abc"), protocol=51)
        assert segment_of(ethernet(ip))["payload_bytes"] == 3

    @pytest.mark.parametrize(
        ("routing", "last"),
        [
            (b"\x04\x00\x01\x00\x00\x00\x00" + bytes(15) + b"\x07" + bytes(15) + b"\x09", 9),
            (b"\x02\x02\x01\x00\x00\x00\x00" + bytes(15) + b"\x07", 7),
            (b"\x04\x04\x01\x01\x00\x00\x00" + bytes(15) + b"\x07" + bytes(15) + b"\x09", 7),
            (b"\x04\x00\x00\x00\x00\x00\x00" + bytes(15) + b"\x07" + bytes(15) + b"\x09", 2),
            (b"\x02\xfd\x01\x00\x00\x00\x00" + bytes(15) + b"\x07", 2),
        ],
        ids=["type 0", "mobility", "segments", "arrived", "another type"],
    )
    def test_the_destination_is_where_a_route_ends(self, routing: bytes, last: int) -> None:
        frame = ethernet(ipv6(tcp(), extensions=[(43, routing)]), 0x86DD)
        assert segment_of(frame)["dst_ip"][15] == last

    @pytest.mark.parametrize(
        ("options", "last"),
        [
            (b"\x83\x0b\x04\x0a\x00\x00\x07\x0a\x00\x00\x09\x00", 9),
            (b"\x01\x89\x07\x04\x0a\x00\x00\x07", 7),
            (b"\x83\x0b\x0c\x0a\x00\x00\x07\x0a\x00\x00\x09\x00", 2),
            (b"\x83\x03\x04\x00", 2),
            (b"\x83\xff\x04\x00", 2),
            (b"\x83\x0b\x00\x0a\x00\x00\x07\x0a\x00\x00\x09\x00", 2),
        ],
        ids=["loose", "strict", "arrived", "without addresses", "too long", "pointer 0"],
    )
    def test_the_destination_is_where_a_source_route_ends(self, options: bytes, last: int) -> None:
        assert segment_of(ethernet(ipv4(tcp(), options=options)))["dst_ip"][15] == last

    def test_ipv4_options(self) -> None:
        assert segment_of(ethernet(ipv4(tcp(payload=b"abc"), options=b"\x94\x04\x00\x00" * 10)))["payload_bytes"] == 3


class TestTheDoor:
    def test_another_dtype_is_refused(self) -> None:
        with pytest.raises(TypeError, match="SEGMENT_DTYPE"):
            decode(eth_ipv4_tcp(), np.zeros(1, np.uint64))
        with pytest.raises(TypeError, match="SEGMENT_DTYPE"):
            decode(eth_ipv4_tcp(), np.zeros(2, SEGMENT_DTYPE))

    def test_a_reset_keeps_its_flag(self) -> None:
        assert segment_of(eth_ipv4_tcp(flags=RST))["flags"] == RST
