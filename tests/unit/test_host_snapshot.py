"""A look that was kept in a file: read back as it was, and every line that is none named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_looks import NOON, many, sock

from conntrack.cli import main
from conntrack.errors import InputError
from conntrack.export import make_exporter
from conntrack.host.snapshot import read_snapshot

KEPT = (
    "state", "local_ip", "local_port", "remote_ip", "remote_port", "ip_version", "at_ts_ns", "since_ts_ns", "flow_id",
    "recv_queue", "send_queue", "retransmits", "sent_bytes", "received_bytes", "drops", "timeouts", "uid", "inode",
    "pid", "process", "unit",
)  # fmt: skip


def some_rows() -> np.ndarray[Any, Any]:
    rows = [
        sock("LISTEN", ("::", 80), ("::", 0), send_queue=128, pid=7, process=b"web%2C", unit=b"web.service"),
        *many(3, "CLOSE_WAIT", ("10.0.0.2", 80), age_s=61, retransmits=-1, drops=5),
        sock("TIME_WAIT", ("2001:db8::1", 1), ("2001:db8::2", 2), inode=0),
    ]
    table: np.ndarray[Any, Any] = np.concatenate(rows)
    return table


@pytest.mark.parametrize("epoch", [False, True])
def test_what_was_written_is_read(epoch: bool, tmp_path: Path) -> None:
    path = tmp_path / "before.ndjson"
    rows = some_rows()
    path.write_bytes(make_exporter("ndjson", of="host", epoch=epoch).rows(rows))
    kept = read_snapshot(str(path))
    assert (kept.at_ts_ns, kept.source, kept.counters) == (NOON, str(path), {})
    for name in KEPT:
        assert kept.rows[name].tolist() == rows[name].tolist(), name


def test_rows_of_a_capture_are_a_snapshot_too(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "then.ndjson"
    incident = str(root / "tests" / "captures" / "incident.pcap")
    assert main(["sockets", incident, "--host", "10.9.0.2", "-o", str(path)]) == 0
    kept = read_snapshot(str(path))
    assert len(kept.rows) == len(path.read_text().splitlines())
    assert (kept.rows["pid"] == -1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "ESTAB"}, "no 'ESTAB'"),
        ({"local_ip": "router"}, "'router' is not an IP address"),
        ({"local_ip": "::1"}, "two versions of IP"),
        ({"local_port": 65_536}, "65536 is no number from 0 to 65535"),
        ({"local_port": "80"}, "'80' is no number from 0 to 65535"),
        ({"inode": True}, "True is no number"),
        ({"pid": 2**40}, "is no number"),
        ({"at_ts": "soon"}, "'soon' is not a time"),
        ({"process": "é"}, "ordinal not in range"),
    ],
)
def test_a_line_that_is_none_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    lines = make_exporter("ndjson", of="host").rows(some_rows()).decode().splitlines()
    row = {**json.loads(lines[1]), **change}
    path = tmp_path / "bad.ndjson"
    path.write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]))
    with pytest.raises(InputError, match="line 2 is no row of 'ctrack sockets --format ndjson'") as raised:
        read_snapshot(str(path))
    assert message in str(raised.value)


def test_what_is_no_snapshot_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_snapshot(str(tmp_path / "missing"))
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(InputError, match="no socket in it"):
        read_snapshot(str(tmp_path / "empty"))
    (tmp_path / "deep").write_text("[" * 60_000)
    with pytest.raises(InputError, match="line 1"):
        read_snapshot(str(tmp_path / "deep"))
    (tmp_path / "list").write_text("[]\n")
    with pytest.raises(InputError, match="line 1"):
        read_snapshot(str(tmp_path / "list"))


def test_damage_ends_in_one_error_or_none(tmp_path: Path) -> None:
    chance = random.Random(9)
    good = make_exporter("ndjson", of="host").rows(some_rows())
    path = tmp_path / "damaged.ndjson"
    refused = 0
    for _ in range(1_500):
        raw = bytearray(good)
        for _ in range(3):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        path.write_bytes(raw)
        try:
            read_snapshot(str(path))
        except InputError:
            refused += 1
    assert refused > 500
