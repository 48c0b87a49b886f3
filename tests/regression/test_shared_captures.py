"""Every public capture is read to its end, and the connections are those that Zeek finds.

The captures and Zeek's own published results (conn.log baselines of its test suite) are in the shared folder. Each
difference is listed here with the reason why it is one of Zeek's settings and not of the connections.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conntrack.addresses import ip_text
from conntrack.capture import open_capture
from conntrack.core.abi import FLOW_DTYPE
from conntrack.derived import ZEEK_CONN_STATES, zeek_conn_state
from conntrack.errors import InputError
from conntrack.pipeline import flow_batches
from conntrack.tracker import Tracker

ZEEK_SETTINGS = {
    "core.checksums_ignore_nets": "Zeek is told to drop packets with a bad checksum; ours never requires one",
    "core.pcap.dynamic-filter": "Zeek runs with a packet filter that changes midway",
    "core.pcap.read-trace-with-filter": "Zeek runs with the packet filter 'port 50000'",
}

NO_FLIP = "a lone SYN+ACK: in a bare Zeek, without likely_server_ports, its sender stays the originator"

Endpoints = tuple[str, int, str, int]


def connections(path: Path) -> np.ndarray[Any, Any]:
    with open_capture([path]) as capture:
        parts = [rows.copy() for rows in flow_batches(capture, Tracker(validate=True))]
        info = capture.info
    assert info.packets == info.tcp_segments + sum(info.skipped.values())
    rows = np.concatenate([np.empty(0, FLOW_DTYPE), *parts])
    counts = (rows[f"{side}_{what}"].sum() for side in ("client", "server") for what in ("packets", "duplicates"))
    assert sum(int(count) for count in counts) == info.tcp_segments
    return rows


def manifest(shared: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((shared / "captures" / "MANIFEST.json").read_text())
    return entries


def test_every_capture_is_read_or_refused_in_one_line(shared: Path) -> None:
    entries = manifest(shared)
    assert len(entries) == 256
    refused = []
    for entry in entries:
        try:
            connections(shared / "captures" / entry["file"])
        except InputError as error:
            assert "\n" not in str(error)
            refused.append(entry["file"])
    assert refused == []


def of_ours(rows: np.ndarray[Any, Any]) -> Counter[tuple[Any, ...]]:
    states = zeek_conn_state(rows)
    found: Counter[tuple[Any, ...]] = Counter()
    for row, state in zip(rows, states, strict=True):
        version = int(row["ip_version"])
        found[
            ip_text(row["client_ip"].tobytes(), version),
            int(row["client_port"]),
            ip_text(row["server_ip"].tobytes(), version),
            int(row["server_port"]),
            int(row["client_packets"]),
            int(row["server_packets"]),
            ZEEK_CONN_STATES[state],
            row["history"].tobytes().rstrip(b"\0").decode(),
        ] += 1
    return found


def of_zeek(log: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for row in log["rows"]:
        if row["proto"] != "tcp":
            continue
        key = [
            row["id.orig_h"],
            int(row["id.orig_p"]),
            row["id.resp_h"],
            int(row["id.resp_p"]),
            int(row["orig_pkts"]),
            int(row["resp_pkts"]),
            row["conn_state"],
            row["history"],
        ]
        if row["history"] == "H":  # NO_FLIP
            key = [*key[2:4], *key[0:2], key[5], key[4], key[6], "^h"]
        found[tuple(key)] += 1
    return found


WHOLE_ROW = (
    "id.orig_h",
    "id.orig_p",
    "id.resp_h",
    "id.resp_p",
    "orig_pkts",
    "resp_pkts",
    "conn_state",
    "history",
    "proto",
)


def test_connections_are_zeeks(shared: Path) -> None:
    """4-tuples, packets each way, conn_state and history: equal in every log that has them, but for ZEEK_SETTINGS."""
    expected = json.loads((shared / "captures" / "expected_zeek.json").read_text())
    files = {entry["file"] for entry in manifest(shared)}
    compared, rows_compared, different = 0, 0, set()
    for name, logs in expected.items():
        (path,) = [file for file in files if file.startswith("zeek+zeek/") and file.endswith("/" + name)]
        ours = of_ours(connections(shared / "captures" / path))
        for log in logs:
            rows = log["rows"] or []
            # Logs whose test renames or leaves out fields, or counts no packets, have nothing to compare with.
            if log["kind"] != "conn.log" or not rows or not all(set(WHOLE_ROW) <= set(row) for row in rows):
                continue
            if any(not row["orig_pkts"].isdigit() for row in rows):
                continue
            compared += 1
            theirs = of_zeek(log)
            rows_compared += sum(theirs.values())
            if ours != theirs:
                different.add(log["test"])
                if log["test"] not in ZEEK_SETTINGS:
                    pytest.fail(f"{log['test']} on {name}:\nours only {ours - theirs}\nZeek only {theirs - ours}")
    assert different == set(ZEEK_SETTINGS)
    assert (compared, rows_compared) == (16, 94)
