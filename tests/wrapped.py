"""Every way in which a segment may be wrapped, one frame of each: for the tests of decoding, and as seeds for fuzzing.

The segment is the same in all: ports 1111 and 2222, an ACK with the payload "abc".
"""

from __future__ import annotations

import struct

from frames import ethernet, ipv4, ipv6, tcp
from layers import (
    FIRST_MAC,
    INNER4,
    INNER6,
    SECOND_MAC,
    erf,
    erspan,
    fabricpath,
    geneve,
    gre,
    gtp,
    l2tp,
    mpls,
    nflog,
    pbb,
    pppoe,
    pptp,
    radiotap,
    snap,
    udp,
    vntag,
    vxlan,
    wlan,
)

FRAME4 = ethernet(INNER4)
FRAME6 = ethernet(INNER6, 0x86DD)
OUTER = "ipv4 10.0.0.1>10.0.0.2"
OUTER6 = "ipv6 2001:db8::1>2001:db8::2"
TEREDO = ipv6(tcp(1111, 2222, payload=b"abc"), "2001::1", "2001:db8::2")


def over_udp(payload: bytes, port: int) -> bytes:
    return ethernet(ipv4(udp(payload, port), protocol=17))


def over_ip(payload: bytes, protocol: int) -> bytes:
    return ethernet(ipv4(payload, protocol=protocol))


LINKS = [
    (6, b"\x10\x40" + FIRST_MAC + SECOND_MAC + snap(INNER4)),
    (6, b"\x10\x40" + FIRST_MAC + b"\x82" + SECOND_MAC[1:] + b"\x06\x30\x00\x11\x00\x21" + snap(INNER4)),
    (7, b"\x01\x02\xf0" + INNER4),
    (7, b"\x01\x02\xd4\x00\x00\x01" + INNER4),
    (7, b"\x01\x02\xd4\xff\xff\xff\xd4\x00\x00\x01" + INNER4),
    (129, b"\x01\x02\x00\x00\xf0" + INNER4),
    (129, b"\x01\x02\x00\x00\xd4\x00\x00\x01" + INNER4),
    (129, b"\x01\x02\x00\x00\xc4\x00\x00\x01" + INNER6),
    (10, b"\x57" + FIRST_MAC + SECOND_MAC + snap(INNER4)),
    (51, pppoe(INNER4)),
    (100, snap(INNER4)),
    (104, b"\x0f\x00\x08\x00" + INNER4),
    (104, b"\x8f\x00\x86\xdd" + INNER6),
    (205, b"\x00\x0f\x00\x08\x00" + INNER4),
    (105, wlan(snap(INNER4))),
    (105, wlan(snap(INNER4), flags=3)),
    (105, wlan(snap(INNER4), subtype=8)),
    (105, wlan(snap(INNER4), subtype=8, flags=0x81)),
    (105, wlan(FIRST_MAC + SECOND_MAC + struct.pack(">H", len(snap(INNER4))) + snap(INNER4), subtype=8, qos=0x80)),
    (107, b"\x04\x11\x03\xcc" + INNER4),
    (107, b"\x04\x10\x10\x11\x03\x00\x8e" + INNER6),
    (107, b"\x04\x11\x03\x00\x80\x00\x00\x00\x08\x00" + INNER4),
    (107, b"\x04\x11\x08\x00" + INNER4),
    (109, struct.pack("<I", 2) + bytes(8) + INNER4),
    (117, b"\x2d\x02" + bytes(46) + INNER4),
    (119, struct.pack("<II", 0x44, 144) + bytes(136) + wlan(snap(INNER4))),
    (119, struct.pack(">II", 0x80211001, 64) + bytes(56) + wlan(snap(INNER4))),
    (122, bytes(16) + snap(INNER4)),
    (127, radiotap(wlan(snap(INNER4)))),
    (127, radiotap(wlan(snap(INNER4)) + bytes(4), flags=0x10, time=True)),
    (127, radiotap(wlan(snap(INNER4), subtype=8, pad=2), flags=0x20, words=3)),
    (138, bytes(16) + b"\x08\x00" + INNER4),
    (163, struct.pack(">II", 0x80211002, 64) + bytes(56) + wlan(snap(INNER4))),
    (166, b"\x00\x03\x00\x21" + INNER4),
    (166, b"\x01\xff\x03\x00\x57" + INNER6),
    (204, b"\x00\xff\x03\x00\x21" + INNER4),
    (178, b"MGC\x80\x00\x04abcd" + FRAME4),
    (178, b"MGC\x00" + FRAME4),
    (197, erf(2, b"\0\0" + FRAME4)),
    (197, erf(0x80 | 20, b"\x8f" + bytes(7) + b"\x05" + bytes(7) + b"\0\0" + FRAME6)),
    (197, erf(22, INNER4)),
    (197, erf(23, INNER6)),
    (197, erf(1, b"\x0f\x00\x08\x00" + INNER4)),
    (197, erf(10, b"\xff\x03\x00\x21" + INNER4)),
    (192, struct.pack("<BBHI", 0, 0, 12, 105) + bytes(4) + wlan(snap(INNER4))),
    (192, struct.pack("<BBHI", 0, 0, 8, 1) + FRAME4),
    (258, struct.pack("<III", 20, 1, 1) + bytes(8) + FRAME4),
    (239, nflog(INNER4)),
    (239, nflog(INNER6, family=10, order=">")),
    (242, bytes(40) + b"\x08\x00\x00\x00" + INNER4),
    (1, ethernet(snap(INNER4), 60)),
    (1, ethernet(snap(INNER6, 0x86DD, 0xF8), 70)),
    (1, ethernet(snap(FRAME4, 7, 0x80C2), 90)),
    (1, ethernet(snap(INNER4), 0x8870)),
    (1, ethernet(b"\x06\x06\x03" + INNER4, 60)),
    (1, ethernet(b"\xfe\xfe\x03\xcc" + INNER4, 60)),
]
"""Link type, frame: without tags or tunnels."""

TAGGED = [
    (ethernet(INNER4, 0x0800, [(0x8100, 12)]), "eth/vlan 12", 12),
    (ethernet(INNER4, 0x0800, [(0x8100, 0)]), "", 0),
    (ethernet(INNER4, 0x0800, [(0x88A8, 5), (0x8100, 12)]), "eth/vlan 5/vlan 12", 5 << 12 | 12),
    (ethernet(INNER4, 0x0800, [(0x9200, 0xFFF), (0x8100, 1)]), "eth/vlan 4095/vlan 1", 0xFFF001),
    (ethernet(pbb(FRAME4, 70000), 0x88E7), "eth/pbb 70000", 70000),
    (ethernet(pbb(FRAME4, 0x11), 0x88E7, [(0x88A8, 3)]), "eth/vlan 3/pbb 17", 3 << 12 ^ 17),
    (ethernet(vntag(INNER4), 0x8926), "eth/vntag", 0),
    (ethernet(vntag(b"\x00\x07\x86\xdd" + INNER6, 0x8100), 0x8926), "eth/vntag/vlan 7", 7),
    (ethernet(fabricpath(ethernet(INNER4, vlans=[(0x8100, 9)])), 0x8903), "eth/fabricpath/vlan 9", 9),
    (ethernet(mpls(INNER4, 16, 17), 0x8847), "eth/mpls 16/mpls 17", 0),
    (ethernet(mpls(INNER6, 16), 0x8848), "eth/mpls 16", 0),
    (ethernet(mpls(INNER6, 2), 0x8847), "eth/mpls 2", 0),
    (ethernet(mpls(FRAME4, 99), 0x8847), "eth/mpls 99", 0),
    (ethernet(mpls(FRAME4, 99, control_word=True), 0x8847), "eth/mpls 99", 0),
    (ethernet(mpls(b"\x45" + FRAME4[1:], 99), 0x8847), "eth/mpls 99", 0),
    (ethernet(mpls(b"\x00\x01" + FRAME4[2:], 99), 0x8847), "eth/mpls 99", 0),
    (ethernet(pppoe(INNER4), 0x8864), "eth/pppoe 42", 42),
    (ethernet(pppoe(INNER6, protocol=b"\x57") + bytes(9), 0x8864), "eth/pppoe 42", 42),
    (ethernet(pppoe(mpls(INNER4, 77), protocol=b"\x02\x81"), 0x8864), "eth/pppoe 42/mpls 77", 42),
]

TUNNELS = [
    (over_ip(INNER4, 4), f"eth/{OUTER}", 0),
    (over_ip(INNER4, 94), f"eth/{OUTER}", 0),
    (over_ip(INNER6, 41), f"eth/{OUTER}", 0),
    (ethernet(ipv6(INNER4, protocol=4), 0x86DD, [(0x8100, 8)]), f"eth/vlan 8/{OUTER6}", 8),
    (ethernet(ipv6(INNER6, protocol=41), 0x86DD), f"eth/{OUTER6}", 0),
    (ethernet(ipv6(FRAME4, protocol=143), 0x86DD), f"eth/{OUTER6}", 0),
    (over_ip(mpls(INNER4, 33), 137), f"eth/{OUTER}/mpls 33", 0),
    (over_ip(b"\x30\x00" + FRAME4, 97), f"eth/{OUTER}/etherip", 0),
    (over_ip(b"\x04\x04" + bytes(22) + INNER4, 51), f"eth/{OUTER}", 0),
    (over_ip(gre(INNER4), 47), f"eth/{OUTER}/gre", 0),
    (over_ip(gre(INNER6, 0x86DD, checksum=True), 47), f"eth/{OUTER}/gre", 0),
    (over_ip(gre(INNER4, key=9), 47), f"eth/{OUTER}/gre 9", 9),
    (over_ip(gre(INNER4, key=9, checksum=True, sequence=4), 47), f"eth/{OUTER}/gre 9", 9),
    (over_ip(gre(INNER4, routing=b"\x08\x00\x00\x04abcd" + bytes(4)), 47), f"eth/{OUTER}/gre", 0),
    (over_ip(gre(FRAME4, 0x6558), 47), f"eth/{OUTER}/gre", 0),
    (over_ip(gre(FRAME4, 0x6558, key=0x123407), 47), f"eth/{OUTER}/nvgre {0x1234}", 0x1234),
    (over_ip(gre(FRAME4, 0x6558, key=42), 47), f"eth/{OUTER}/gre 42", 42),
    (over_ip(gre(INNER4, 0x883E), 47), f"eth/{OUTER}/gre", 0),
    (over_ip(gre(b"\x05\x59\x00\x48" + INNER4, 0x883E), 47), f"eth/{OUTER}/gre", 0),
    (over_ip(gre(wlan(snap(INNER4), subtype=8), 0x8200), 47), f"eth/{OUTER}/gre/wlan", 0),
    (over_ip(gre(mpls(INNER4, 5), 0x8847), 47), f"eth/{OUTER}/gre/mpls 5", 0),
    (over_ip(pptp(b"\xff\x03\x00\x21" + INNER4), 47), f"eth/{OUTER}/pptp", 0),
    (over_ip(pptp(b"\x21" + INNER4, ack=8), 47), f"eth/{OUTER}/pptp", 0),
    (over_ip(erspan(FRAME4, 1), 47), f"eth/{OUTER}/gre/erspan 0", 0),
    (over_ip(erspan(FRAME4, 2, vlan=77), 47), f"eth/{OUTER}/gre/erspan 5", 77),
    (over_ip(erspan(FRAME6, 3), 47), f"eth/{OUTER}/gre/erspan 5", 0),
    (over_ip(erspan(FRAME4, 4, vlan=8), 47), f"eth/{OUTER}/gre/erspan 5", 8),
    (over_udp(vxlan(FRAME4), 4789), f"eth/{OUTER}/udp/vxlan 42", 42),
    (over_udp(vxlan(FRAME6, 0xFFFFFF), 8472), f"eth/{OUTER}/udp/vxlan 16777215", 0xFFFFFF),
    (over_udp(vxlan(FRAME4, flags=0x88000005), 4789), f"eth/{OUTER}/udp/vxlan 42", 42),
    (over_udp(vxlan(INNER4, flags=0x0C000001), 4790), f"eth/{OUTER}/udp/vxlan 42", 42),
    (over_udp(vxlan(INNER6, flags=0x0C000002), 4790), f"eth/{OUTER}/udp/vxlan 42", 42),
    (over_udp(vxlan(FRAME6, flags=0x0C000003), 4790), f"eth/{OUTER}/udp/vxlan 42", 42),
    (over_udp(vxlan(ethernet(INNER4, vlans=[(0x8100, 3)])), 4789), f"eth/{OUTER}/udp/vxlan 42/vlan 3", 42 << 12 | 3),
    (over_udp(geneve(FRAME4), 6081), f"eth/{OUTER}/udp/geneve 42", 42),
    (over_udp(geneve(INNER6, protocol=0x86DD, options=bytes(12)), 6081), f"eth/{OUTER}/udp/geneve 42", 42),
    (over_udp(gtp(INNER4), 2152), f"eth/{OUTER}/udp/gtp 42", 0),
    (over_udp(gtp(INNER6, flags=0x32, extra=b"\x00\x01\x00\x00"), 2152), f"eth/{OUTER}/udp/gtp 42", 0),
    (
        over_udp(gtp(INNER4, flags=0x34, extra=b"\x00\x00\x00\x85\x01\x00\x09\xc0\x01ab\x00"), 2152),
        f"eth/{OUTER}/udp/gtp 42",
        0,
    ),
    (over_udp(TEREDO, 3544), f"eth/{OUTER}/udp/teredo", 0),
    (over_udp(b"\x00\x01\x02\x03idaut12345678\x00" + bytes(8) + TEREDO, 3544), f"eth/{OUTER}/udp/teredo", 0),
    (over_udp(l2tp(b"\xff\x03\x00\x21" + INNER4), 1701), f"eth/{OUTER}/udp/l2tp 3/7", 0),
    (over_udp(l2tp(b"\x00\x57" + INNER6, flags=2), 1701), f"eth/{OUTER}/udp/l2tp 3/7", 0),
    (
        over_udp(l2tp(b"\x21" + INNER4, flags=0x4A02, rest=bytes(4) + b"\x00\x02ab"), 1701),
        f"eth/{OUTER}/udp/l2tp 3/7",
        0,
    ),
    (over_udp(mpls(INNER4, 800), 6635), f"eth/{OUTER}/udp/mpls 800", 0),
    (
        over_ip(gre(ipv4(udp(vxlan(FRAME4), 4789), "172.16.0.1", "172.16.0.2", protocol=17)), 47),
        f"eth/{OUTER}/gre/ipv4 172.16.0.1>172.16.0.2/udp/vxlan 42",
        42,
    ),
]  # fmt: skip
"""Frame on Ethernet, path, tag."""
