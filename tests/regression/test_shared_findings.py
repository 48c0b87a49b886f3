"""Every finding in the public captures, file by file: each of them is one that a reader of the capture agrees with.

The reasons are what tcpdump and tshark show. A finding that comes or goes is a change of judgement and belongs here.
"""

from __future__ import annotations

import json
from pathlib import Path

from reported import meet_the_schema

from conntrack.errors import InputError
from conntrack.pipeline import analyze
from conntrack.report.json import render_json

EXPECTED: dict[str, dict[tuple[str, str, str], str]] = {
    "zeek+zeek/testing/btest/Traces/tunnels/gre-aruba.pcap": {
        ("info", "one_sided_capture", "capture"): "of 17 of 23 connections only the client's segments are there",
        ("info", "zero_window_stall", "10.37.36.92"): "the client announces a window of 0 three times",
    },
    "zeek+zeek/testing/btest/Traces/tcp/ssh-dups.pcap": {
        ("info", "duplicate_frames", "capture"): "every frame twice, as its name says",
    },
    "zeek+zeek/testing/btest/Traces/smb/smb_many_open_files_500.pcap.gz": {
        ("info", "connection_refused", "192.168.2.69:139"): "one SYN, answered by a RST",
    },
    "zeek+zeek/testing/btest/Traces/nflog-http.pcap": {
        ("info", "duplicate_frames", "capture"): "the SYN three times at the same instant: three rules log it",
    },
    "zeek+zeek/testing/btest/Traces/erspan.pcap": {
        ("info", "capture_loss", "capture"): "two thirds of what is acknowledged are not in the mirror",
    },
    "the-tcpdump-group+tcpdump/tests/pptp.pcap": {
        ("info", "duplicate_frames", "capture"): "every segment of one side twice within 0.3 ms, with the same IP id",
    },
    "the-tcpdump-group+tcpdump/tests/ipoib.pcap": {
        ("info", "one_sided_capture", "capture"): "of one of six connections only the client's segments are there",
    },
    "arkime+arkime/tests/pcap/mongo.pcap": {
        ("info", "duplicate_frames", "capture"): "two VLANs with the same segments",
    },
    "arkime+arkime/tests/pcap/80211http.pcap": {
        ("info", "duplicate_frames", "capture"): "a radio's retransmission, 1 ms after the frame",
    },
    "OISF+suricata-verify/tests/tcp-split-handshake-02-5whs/split-handshake-5whs.pcap": {
        ("info", "duplicate_frames", "capture"): "made up: a segment again with the same IP id",
    },
    "OISF+suricata-verify/tests/detect-ipopts/input.pcap": {
        ("info", "duplicate_frames", "capture"): "made up: the same SYN six times within 4 ms, with the same IP id",
    },
    "OISF+suricata-verify/tests/bug-5437-02/input.pcap": {
        ("info", "duplicate_frames", "capture"): "eight frames are there twice, with the same IP id",
        ("info", "close_wait_leak", "40.110.35.23:80"): "the client closed two; the server said nothing for 116 s",
    },
    "CESNET+ipfixprobe/tests/functional/inputs/tls.pcap": {
        ("info", "duplicate_frames", "capture"): "the file has the same 83 frames once more behind the first ones",
        ("info", "capture_loss", "capture"): "pieces of several captures: in four connections data is missing",
    },
    "OISF+suricata-verify/tests/tcp-async-01/input.pcap": {
        ("info", "one_sided_capture", "capture"): "made to have the server's segments alone",
    },
    "OISF+suricata-verify/tests/tcp-rst-unacked-stream-09/"
    "TLPW1-tcp-110.37.219.134-10.12.14.101-tcp-990-49230.pcap": {
        ("info", "capture_loss", "capture"): "10 kB of the client's upload are acknowledged and not there",
    },
    "OISF+suricata-verify/tests/tls/tls-subjectaltname/input.pcap": {
        ("info", "close_wait_leak", "192.168.100.206"): "three servers closed, and the client kept its ends for 63 s",
    },
    "OISF+suricata-verify/tests/transform-base64-7296/input.pcap": {
        ("info", "duplicate_frames", "capture"): "made by a fuzzer: segments again with the same IP id",
        ("info", "capture_loss", "capture"): "made by a fuzzer: sequence numbers jump",
    },
    "OISF+suricata-verify/tests/dnp3/dnp3-eve/input.pcap": {
        ("info", "connection_refused", "127.0.0.1:20000"): "the server has gone when the client comes back",
    },
    "seladb+PcapPlusPlus/Tests/Pcap++Test/PcapExamples/pcapng-example.pcapng": {
        ("info", "connection_refused", "130.217.250.13:8810"): "one SYN, answered by a RST",
    },
    "seladb+PcapPlusPlus/Tests/Pcap++Test/PcapExamples/sll2.pcap": {
        ("info", "one_sided_capture", "capture"): "all segments of its one connection have the same sender",
    },
    "StopDDoS+packet-captures/amp.TCP.syn.optionallyACK.optionallysamePort.pcapng": {
        ("info", "unanswered_syn", "10.10.10.10"): "15 ports, none of them answers, some clients repeat their SYN",
    },
    "StopDDoS+packet-captures/pkt.TCP.DOMINATE.syn.ecn.cwr.pcapng": {
        ("critical", "syn_flood", "10.10.10.10:30120"): "7,038 SYNs in 0.4 s from as many addresses, none answered",
    },
    "arkime+arkime/tests/pcap/ospf.pcap": {
        ("info", "one_sided_capture", "capture"): "of two BGP sessions only one router's segments are there",
    },
    "arkime+arkime/tests/pcap/tcp-reassembly-synthetic.pcap": {
        ("info", "duplicate_frames", "capture"): "made up: retransmissions have the IP id of the original",
        ("info", "capture_loss", "capture"): "8 bytes are acknowledged first and sent later",
    },
    "seladb+PcapPlusPlus/Tests/Fuzzers/RegressionTests/regression_samples/"
    "1eb005b8d62599b6561acf7e778f51603ccbc5ddf948c0b081617668bb56cee4": {
        ("info", "capture_loss", "capture"): "made by a fuzzer: 38 bytes of BGP are acknowledged and not there",
    },
    "seladb+PcapPlusPlus/Tests/Packet++Test/PacketExamples/ldap.pcapng": {
        ("info", "duplicate_frames", "capture"): "its first two frames are the same",
        ("info", "capture_loss", "capture"): "pieces of several captures; tshark too marks lost segments",
    },
    "seladb+PcapPlusPlus/Tests/Pcap++Test/PcapExamples/raw_ip.pcap": {
        ("info", "one_sided_capture", "capture"): "two of six connections have the client's segments alone",
    },
    "seladb+PcapPlusPlus/Tests/Pcap++Test/PcapExamples/unidirectional_tcp_stream_with_missing_packet.pcap": {
        ("info", "one_sided_capture", "capture"): "made to have the client's segments alone",
    },
    "the-tcpdump-group+tcpdump/tests/bgp-as-path-oobr.pcap": {
        ("info", "one_sided_capture", "capture"): "made by a fuzzer: one of two sessions has one direction",
    },
    "the-tcpdump-group+tcpdump/tests/of13_ericsson.pcapng": {
        ("info", "connection_refused", "127.0.0.1:6633"): "the first attempt; 4 s later the controller listens",
        ("info", "capture_loss", "capture"): "tshark too marks 16 places where segments are missing",
    },
    "zeek+zeek/testing/btest/Traces/http/zero-length-bodies-with-drops.pcap": {
        ("info", "capture_loss", "capture"): "made with drops, as its name says",
    },
    "zeek+zeek/testing/btest/Traces/nmap-vsn.pcap": {
        ("info", "connection_refused", "192.168.1.1:80"): "nmap's probe, answered by a RST",
        ("info", "connection_refused", "192.168.1.50:80"): "nmap's probe, answered by a RST",
        ("info", "connection_refused", "192.168.1.65:80"): "nmap's two probes, answered by RSTs",
        ("info", "connection_refused", "192.168.1.65:443"): "nmap's two probes, answered by RSTs",
    },
    "zeek+zeek/testing/btest/Traces/redis/attr.pcap": {
        ("info", "connection_refused", "[::1]:6379"): "the client tries IPv6 first, where nothing listens",
    },
    "zeek+zeek/testing/btest/Traces/tcp/reassembly.pcap": {
        ("info", "capture_loss", "capture"): "4 kB are acknowledged and not there",
    },
}  # fmt: skip


def test_the_findings_are_those_that_a_reader_agrees_with(shared: Path) -> None:
    entries = json.loads((shared / "captures" / "MANIFEST.json").read_text())
    found: dict[str, set[tuple[str, str, str]]] = {}
    for entry in entries:
        try:
            report = analyze(shared / "captures" / entry["file"], keep_flows=False)
        except InputError:
            continue
        meet_the_schema(json.loads(render_json(report)))
        if report.findings:
            found[entry["file"]] = {(told.severity, told.kind, told.subject) for told in report.findings}
    assert found == {name: set(findings) for name, findings in EXPECTED.items()}
