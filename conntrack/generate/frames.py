"""What a packet looks like: pcap records with Ethernet, IP and TCP headers, or rows of SEGMENT_DTYPE.

Owns the header layouts, the windows, the MAC addresses and the checksums. Knows neither what a packet is for nor when.
Read RFC 9293 section 3.1 and RFC 7323, and the pcap file format (draft-ietf-opsawg-pcap).

Records of one header layout are filled as columns of one structured array, then copied to where they belong in the
buffer; what lies behind the headers is payload, all zeros, so that the checksum needs the headers only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from conntrack.core.abi import HAS_SACK_PERMITTED, HAS_TIMESTAMP, SEGMENT_DTYPE
from conntrack.generate.conversation import Layout

__all__ = ["Frames", "pcap_header"]

Array = NDArray[Any]
RECORD: Final = 16  # header of a pcap record
ETHERNET: Final = 14
IP_HEADER: Final = {4: 20, 6: 40}
OPTIONS: Final = {Layout.PLAIN: 0, Layout.MSS: 4, Layout.TIMESTAMPS: 12, Layout.SYN: 20}
SYN, ACK = 2, 16
ANNOUNCED_MSS: Final = 1460
WINDOW_SCALE: Final = 7
SERVER_TTL: Final = 64
SYN_WINDOW: Final = {True: 64240, False: 65160}  # Linux, client and server
SCALED_WINDOW: Final = {True: 502, False: 509}  # the same, shifted by WINDOW_SCALE
FORGED_WINDOW: Final = 512  # of a client without options, as hping3 sends
IPV6_PREFIX: Final = bytes.fromhex("20010db8" + "00" * 8)  # RFC 3849
IPV4_MAPPED: Final = b"\0" * 10 + b"\xff\xff"  # RFC 4291 section 2.5.5.2


def pcap_header(*, snaplen: int, nanosecond: bool) -> bytes:
    """Return the header of a classic pcap file, version 2.4, link type 1 (Ethernet)."""
    return struct.pack("<IHHiIII", 0xA1B23C4D if nanosecond else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, 1)


def _record_dtype(ip_version: int, layout: Layout) -> np.dtype[Any]:
    fields: list[tuple[str, str]] = [("ts_s", "<u4"), ("ts_fraction", "<u4"), ("caplen", "<u4"), ("wirelen", "<u4")]
    fields += [("dst_mac_high", "V4"), ("dst_mac", ">u2"), ("src_mac_high", "V4"), ("src_mac", ">u2"), ("type", ">u2")]
    if ip_version == 4:
        fields += [("version", "u1"), ("tos", "u1"), ("ip_length", ">u2"), ("ip_id", ">u2"), ("fragment", ">u2")]
        fields += [("ttl", "u1"), ("protocol", "u1"), ("ip_checksum", ">u2"), ("src_ip", ">u4"), ("dst_ip", ">u4")]
    else:
        fields += [("version", "u1"), ("label", "V3"), ("ip_length", ">u2"), ("protocol", "u1"), ("ttl", "u1")]
        fields += [("src_prefix", "V12"), ("src_ip", ">u4"), ("dst_prefix", "V12"), ("dst_ip", ">u4")]
    fields += [("src_port", ">u2"), ("dst_port", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1")]
    fields += [("flags", "u1"), ("window", ">u2"), ("tcp_checksum", ">u2"), ("urgent", ">u2")]
    if layout in (Layout.MSS, Layout.SYN):
        fields += [("mss_option", ">u2"), ("mss", ">u2")]
    if layout is Layout.SYN:
        fields += [("sack_permitted", ">u2")]
    if layout is Layout.TIMESTAMPS:
        fields += [("nops", ">u2")]
    if layout in (Layout.SYN, Layout.TIMESTAMPS):
        fields += [("timestamps", ">u2"), ("tsval", ">u4"), ("tsecr", ">u4")]
    if layout is Layout.SYN:
        fields += [("scale_option", ">u4")]
    return np.dtype(fields)


OPTION_HEADS: Final = {
    "mss_option": 0x0204,
    "mss": ANNOUNCED_MSS,
    "sack_permitted": 0x0402,
    "nops": 0x0101,
    "timestamps": 0x080A,
    "scale_option": 0x01030300 | WINDOW_SCALE,
}


def _word_sum(octets: Array) -> Array:
    """Return the sum of the 16-bit big-endian words of each row (uint8, shape (n, even))."""
    total: Array = np.ascontiguousarray(octets).view(">u2").sum(axis=1, dtype="u4")
    return total


def _checksum(total: Array) -> Array:
    """Fold sums of 16-bit words into Internet checksums (RFC 1071)."""
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


@dataclass(slots=True)
class _Headers:
    """The fields of some packets, as columns."""

    src_ip: Array
    dst_ip: Array
    src_port: Array
    dst_port: Array
    seq: Array
    ack: Array
    tsval: Array
    tsecr: Array
    window: Array
    ttl: Array

    @classmethod
    def of(cls, packets: Array, connections: Array) -> _Headers:
        c = connections[packets["connection"]]
        client = packets["from_client"]

        def ends(name: str) -> tuple[Array, Array]:
            ours, theirs = c[f"client_{name}"], c[f"server_{name}"]
            return np.where(client, ours, theirs), np.where(client, theirs, ours)

        src_ip, dst_ip = ends("ip")
        src_port, dst_port = ends("port")
        src_isn, dst_isn = ends("isn")
        src_clock, dst_clock = ends("clock")
        stamped = np.isin(packets["layout"], (Layout.TIMESTAMPS, Layout.SYN))
        echo_ns = packets["echo_ns"]
        syn = packets["flags"] & SYN != 0
        full = np.where(client, SYN_WINDOW[True], SYN_WINDOW[False])
        window = np.where(syn | ~stamped, full, np.where(client, SCALED_WINDOW[True], SCALED_WINDOW[False]))
        reset = packets["flags"] & 4 != 0
        return cls(
            src_ip=src_ip,
            dst_ip=dst_ip,
            src_port=src_port,
            dst_port=dst_port,
            seq=src_isn + packets["seq"],
            ack=np.where(packets["flags"] & ACK != 0, dst_isn + packets["ack"], 0).astype("u4"),
            tsval=np.where(stamped, src_clock + (packets["ts_ns"] // 1_000_000).astype("u4"), 0).astype("u4"),
            tsecr=np.where(stamped & (echo_ns > 0), dst_clock + (echo_ns // 1_000_000).astype("u4"), 0).astype("u4"),
            window=np.where(reset, 0, np.where(client & (c["bare"] == 1), FORGED_WINDOW, window)),
            ttl=np.where(client, c["client_ttl"], SERVER_TTL),
        )


class Frames:
    """Turns packets into bytes or rows; numbers the frames from 1 over all calls."""

    def __init__(self, connections: Array, *, ip_version: int) -> None:
        """Take the connections (CONNECTION_DTYPE) that the packets refer to."""
        self._connections = connections
        self._ip_version = ip_version
        self._headers = {layout: ETHERNET + IP_HEADER[ip_version] + 20 + OPTIONS[layout] for layout in Layout}
        self._dtypes = {layout: _record_dtype(ip_version, layout) for layout in Layout}
        self._header_bytes = np.array([self._headers[layout] for layout in Layout])
        self._frames = 0

    def _numbers(self, packets: Array) -> Array:
        numbers = self._frames + 1 + np.arange(len(packets))
        self._frames += len(packets)
        return numbers

    def records(self, packets: Array, *, snaplen: int, nanosecond: bool, at_once: int = 32_768) -> Iterator[Array]:
        """Yield the pcap records of `packets` (PACKET_DTYPE, in the order of time) as uint8 buffers."""
        for low in range(0, len(packets), at_once):
            yield self._record_bytes(packets[low : low + at_once], snaplen, nanosecond)

    def _record_bytes(self, packets: Array, snaplen: int, nanosecond: bool) -> Array:
        headers = _Headers.of(packets, self._connections)
        ip_id = self._numbers(packets) & 0xFFFF  # one counter for all hosts: no two frames close in time share an id
        wire = self._header_bytes[packets["layout"]] + packets["payload"]
        caplen = np.minimum(wire, snaplen)
        ends = np.cumsum(RECORD + caplen)
        starts = ends - RECORD - caplen
        buffer = np.zeros(ends[-1], "u1")
        for layout, dtype in self._dtypes.items():
            i = np.flatnonzero(packets["layout"] == layout)
            if len(i) == 0:
                continue
            rows = np.zeros(len(i), dtype)
            names = dtype.names or ()
            rows["ts_s"] = packets["ts_ns"][i] // 1_000_000_000
            rows["ts_fraction"] = packets["ts_ns"][i] % 1_000_000_000 // (1 if nanosecond else 1000)
            rows["caplen"], rows["wirelen"] = caplen[i], wire[i]
            rows["dst_mac_high"] = rows["src_mac_high"] = b"\x02\0\0\0"  # locally administered (IEEE 802 section 8.4)
            rows["dst_mac"] = 1 + packets["from_client"][i]
            rows["src_mac"] = 2 - packets["from_client"][i]
            rows["ip_id" if self._ip_version == 4 else "label"] = ip_id[i] if self._ip_version == 4 else b"\0\0\0"
            for name in _Headers.__slots__:
                if name in names:
                    rows[name] = getattr(headers, name)[i]
            rows["flags"] = packets["flags"][i]
            for name, value in OPTION_HEADS.items():
                if name in names:
                    rows[name] = value
            octets = self._seal(rows, layout, packets["payload"][i])
            width = min(RECORD + snaplen, octets.shape[1])
            sliding_window_view(buffer, width, writeable=True)[starts[i]] = octets[:, :width]
        return buffer

    def _seal(self, rows: Array, layout: Layout, payload: Array) -> Array:
        """Fill in what follows from the other fields, checksums last; return the rows as uint8, shape (n, bytes)."""
        tcp_bytes = 20 + OPTIONS[layout] + payload.astype("i8")
        rows["protocol"] = 6
        rows["offset"] = (20 + OPTIONS[layout]) // 4 << 4
        octets = rows.view("u1").reshape(len(rows), -1)
        ip = RECORD + ETHERNET
        tcp = ip + IP_HEADER[self._ip_version]
        if self._ip_version == 4:
            rows["type"], rows["version"], rows["fragment"] = 0x0800, 0x45, 0x4000
            rows["ip_length"] = 20 + tcp_bytes
            rows["ip_checksum"] = _checksum(_word_sum(octets[:, ip:tcp]))
            addresses = _word_sum(octets[:, ip + 12 : tcp])
        else:
            rows["type"], rows["version"] = 0x86DD, 0x60
            rows["ip_length"] = tcp_bytes
            rows["src_prefix"] = rows["dst_prefix"] = IPV6_PREFIX
            addresses = _word_sum(octets[:, ip + 8 : tcp])
        rows["tcp_checksum"] = _checksum(_word_sum(octets[:, tcp:]) + addresses + 6 + tcp_bytes)
        return octets

    def segments(self, packets: Array) -> Array:
        """Return `packets` (PACKET_DTYPE, in the order of time) as SEGMENT_DTYPE, shape (n,)."""
        headers = _Headers.of(packets, self._connections)
        rows = np.zeros(len(packets), SEGMENT_DTYPE)
        layout = packets["layout"]
        rows["ts_ns"] = packets["ts_ns"]
        rows["frame"] = self._numbers(packets)
        prefix = IPV4_MAPPED if self._ip_version == 4 else IPV6_PREFIX
        for name in ("src_ip", "dst_ip"):
            rows[name][:, :12] = np.frombuffer(prefix, "u1")
            rows[name][:, 12:] = getattr(headers, name).astype(">u4").view("u1").reshape(-1, 4)
        for name in ("seq", "ack", "tsval", "tsecr", "src_port", "dst_port", "window", "ttl"):
            rows[name] = getattr(headers, name)
        rows["payload_bytes"] = packets["payload"]
        rows["wire_bytes"] = self._header_bytes[layout] + packets["payload"]
        rows["flags"] = packets["flags"]
        rows["ip_id"] = rows["frame"] & 0xFFFF if self._ip_version == 4 else 0
        rows["mss"] = np.where((layout == Layout.MSS) | (layout == Layout.SYN), ANNOUNCED_MSS, 0)
        rows["ip_version"] = self._ip_version
        rows["window_scale"] = np.where(layout == Layout.SYN, WINDOW_SCALE, 255)
        rows["options"] = np.where(layout == Layout.SYN, HAS_TIMESTAMP | HAS_SACK_PERMITTED, 0)
        rows["options"][layout == Layout.TIMESTAMPS] = HAS_TIMESTAMP
        return rows
