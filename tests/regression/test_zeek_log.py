"""conn.log beside Zeek's own: every field that both have, row by row, in the logs that Zeek's test suite publishes.

Not compared: ts and uid (its tests leave them out), and duration, which Zeek ends before the last ACKs of a close and
ours with the connection's last segment.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_shared_captures import NO_FLIP, ZEEK_SETTINGS

import conntrack
from conntrack.export import make_exporter

FIELDS = (
    "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "orig_bytes", "resp_bytes", "conn_state",
    "missed_bytes", "history", "orig_pkts", "resp_pkts", "tunnel_parents",
)  # fmt: skip


def ours(path: Path) -> Counter[tuple[str, ...]]:
    exporter = make_exporter("zeek")
    names = exporter.header().decode().splitlines()[-2].split("\t")[1:]
    flows = np.concatenate([batch.copy() for batch in conntrack.track(path)])
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in exporter.rows(flows).decode().splitlines()]
    return Counter(tuple(row[field] for field in FIELDS) for row in rows)


def theirs(rows: list[dict[str, Any]]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        if row["proto"] != "tcp":
            continue
        if row["history"] == "H":
            assert NO_FLIP
            row = row | {
                "id.orig_h": row["id.resp_h"], "id.orig_p": row["id.resp_p"], "id.resp_h": row["id.orig_h"],
                "id.resp_p": row["id.orig_p"], "orig_pkts": row["resp_pkts"], "resp_pkts": row["orig_pkts"],
                "history": "^h",
            }  # fmt: skip
        found[tuple(row[field] for field in FIELDS)] += 1
    return found


def test_the_fields_are_zeeks(shared: Path) -> None:
    logs = json.loads((shared / "captures" / "expected_zeek.json").read_text())
    files = {entry["file"] for entry in json.loads((shared / "captures" / "MANIFEST.json").read_text())}
    compared = 0
    for name, of_file in logs.items():
        (path,) = [file for file in files if file.startswith("zeek+zeek/") and file.endswith("/" + name)]
        for log in of_file:
            rows = log["rows"] or []
            whole = rows and all(set(FIELDS) <= set(row) and row["orig_pkts"].isdigit() for row in rows)
            if log["kind"] != "conn.log" or not whole or log["test"] in ZEEK_SETTINGS:
                continue
            expected = theirs(rows)
            found = ours(shared / "captures" / path)
            if found != expected:
                pytest.fail(f"{log['test']}: ours only {found - expected}\nZeek only {expected - found}")
            compared += sum(expected.values())
    assert compared == 88
