"""Words for what the decoder counts: link types and the reasons why a frame gave no TCP segment.

Owns names only; which bytes mean what is in core (links.pyx, decode.pyx), whose Outcome gives the reasons their
order and their keys. Read https://www.tcpdump.org/linktypes.html, where the numbers and the names come from.
"""

from __future__ import annotations

from conntrack.core.decode import Outcome

__all__ = ["LINK_TYPES", "REASONS", "link_type_name"]

LINK_TYPES: dict[int, str] = {
    0: "NULL",
    1: "ETHERNET",
    6: "IEEE802_5",
    7: "ARCNET_BSD",
    9: "PPP",
    10: "FDDI",
    12: "RAW (12)",
    14: "RAW (14)",
    50: "PPP_HDLC",
    51: "PPP_ETHER",
    100: "ATM_RFC1483",
    101: "RAW",
    104: "C_HDLC",
    105: "IEEE802_11",
    107: "FRELAY",
    108: "LOOP",
    109: "ENC",
    113: "LINUX_SLL",
    117: "PFLOG",
    119: "IEEE802_11_PRISM",
    122: "IP_OVER_FC",
    127: "IEEE802_11_RADIOTAP",
    129: "ARCNET_LINUX",
    138: "APPLE_IP_OVER_IEEE1394",
    163: "IEEE802_11_AVS",
    166: "PPP_PPPD",
    178: "JUNIPER_ETHER",
    192: "PPI",
    197: "ERF",
    204: "PPP_WITH_DIR",
    205: "C_HDLC_WITH_DIR",
    228: "IPV4",
    229: "IPV6",
    239: "NFLOG",
    242: "IPOIB",
    258: "PKTAP",
    276: "LINUX_SLL2",
}
"""The link types that are decoded."""

_NOT_DECODED: dict[int, str] = {
    140: "MTP2",
    147: "USER0",
    189: "USB_LINUX",
    220: "USB_LINUX_MMAPPED",
    249: "USBPCAP",
    253: "NETLINK",
}

REASONS: dict[Outcome, str] = {
    Outcome.ARP: "ARP",
    Outcome.NOT_IP: "neither IPv4 nor IPv6",
    Outcome.MPLS: "inside MPLS, and neither IP nor Ethernet",
    Outcome.PPPOE: "PPPoE discovery",
    Outcome.ENCRYPTED_LINK: "encrypted (802.11)",
    Outcome.IP_FRAGMENT: "pieces of an IP packet before its last, or of one that never became whole",
    Outcome.BAD_FRAGMENT: "pieces of an IP packet that contradict each other",
    Outcome.UDP: "UDP",
    Outcome.ICMP: "ICMP",
    Outcome.SCTP: "SCTP",
    Outcome.IP_TUNNEL: "inside an IP tunnel of a kind that is not opened",
    Outcome.TOO_DEEP: "inside more than 32 layers",
    Outcome.ESP: "encrypted (ESP)",
    Outcome.OTHER_IP_PROTOCOL: "another protocol over IP",
    Outcome.CUT_SHORT_HEADER: "captured too short to hold the headers (a larger snap length helps)",
    Outcome.BAD_IP_HEADER: "an impossible IP header",
    Outcome.BAD_TCP_HEADER: "an impossible TCP header",
    Outcome.UNSUPPORTED_LINK_TYPE: "a link type that is not decoded",
    Outcome.UNKNOWN_INTERFACE: "of an interface that the capture does not describe",
    Outcome.FILTERED: "not let through by the filter",
}
"""What each key of CaptureInfo.skipped says, in words (the key is the member's name in lower case)."""


def link_type_name(link_type: int) -> str:
    """Return the name of a link type as tcpdump.org has it, or its number."""
    return LINK_TYPES.get(link_type) or _NOT_DECODED.get(link_type) or f"link type {link_type}"
