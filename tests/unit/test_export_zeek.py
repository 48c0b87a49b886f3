"""conn.log: its header says how to read it, and a reader that knows only the header gets the connections."""

from __future__ import annotations

import numpy as np
from test_export_columns import many_flows

from conntrack.addresses import ip_text
from conntrack.core.abi import FLOW_DTYPE
from conntrack.export import make_exporter

SECOND = 10**9


def read(log: bytes) -> list[dict[str, str]]:
    """Rows by field, as zeek-cut finds them: by the header alone."""
    separator, fields, rows = "\t", [], []
    for line in log.decode("ascii").splitlines():
        if line.startswith("#separator "):
            separator = line.split(" ", 1)[1].encode().decode("unicode_escape")
        elif line.startswith("#fields"):
            fields = line.split(separator)[1:]
        elif not line.startswith("#"):
            rows.append(dict(zip(fields, line.split(separator), strict=True)))
    return rows


def log_of(flows: np.ndarray) -> bytes:
    exporter = make_exporter("zeek")
    return exporter.header() + exporter.rows(flows) + exporter.finish()


def test_every_type_belongs_to_a_field() -> None:
    header = make_exporter("zeek").header().decode().splitlines()
    fields, types = (line.split("\t") for line in header[-2:])
    assert (fields[0], types[0]) == ("#fields", "#types")
    assert len(fields) == len(types)
    assert fields[1:7] == ["ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"]


def test_bytes_are_those_that_the_sequence_numbers_cover() -> None:
    (flow,) = flows = np.zeros(1, FLOW_DTYPE)
    flow["ip_version"], flow["first_ts_ns"], flow["last_ts_ns"] = 4, 1_700_000_000 * SECOND, 1_700_000_001 * SECOND
    flow["client_ip"] = np.frombuffer(bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1]), np.uint8)
    flow["client_payload_bytes"], flow["client_unique_bytes"], flow["client_gap_bytes"] = 900, 700, 50
    flow["server_gap_bytes"] = 3
    (row,) = read(log_of(flows))
    assert (row["ts"], row["duration"]) == ("1700000000.000000", "1.000000")
    assert (row["orig_bytes"], row["resp_bytes"], row["missed_bytes"]) == ("750", "3", "53")
    assert (row["id.orig_h"], row["proto"], row["service"]) == ("10.0.0.1", "tcp", "-")
    assert (row["orig_ip_bytes"], row["local_orig"], row["history"]) == ("-", "-", "-")


def test_a_connection_of_one_instant_has_no_duration_and_no_bytes() -> None:
    (row,) = read(log_of(np.zeros(1, FLOW_DTYPE)))
    assert (row["duration"], row["orig_bytes"], row["resp_bytes"]) == ("-", "-", "-")


def test_uids_are_the_same_again_and_never_those_of_another() -> None:
    flows = many_flows(5_000)
    flows["flow_id"] = np.arange(5_000)
    flows["first_ts_ns"] = 1_700_000_000 * SECOND
    rows = read(log_of(flows))
    assert rows == read(log_of(flows))
    uids = {row["uid"] for row in rows}
    assert len(uids) == 5_000
    assert {(uid[0], len(uid), uid.isalnum()) for uid in uids} == {("C", 18, True)}


def test_every_row_has_every_field() -> None:
    flows = many_flows(5_000)
    rows = read(log_of(flows))
    assert len(rows) == 5_000
    for row, flow in zip(rows, flows, strict=True):
        assert all(row.values())
        assert row["id.resp_h"] == ip_text(flow["server_ip"].tobytes(), int(flow["ip_version"]))
        assert row["orig_pkts"] == str(flow["client_packets"])
