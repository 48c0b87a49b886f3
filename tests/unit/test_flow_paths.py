"""The columns `tag` and `path`: by which network and outer path a connection came, in every format, over all files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars
import pyarrow.parquet
import pytest
from frames import SYN, eth_ipv4_tcp, ethernet, ipv4, write_pcap
from layers import udp, vxlan

import conntrack
from conntrack.capture import open_capture
from conntrack.cli import main

VLAN = "eth/vlan 12"
VXLAN = "eth/ipv4 10.0.0.1>10.0.0.2/udp/vxlan 42"
SECOND_NS = 10**9


def plain(port: int) -> bytes:
    return eth_ipv4_tcp(sport=port, flags=SYN, ack=0)


def on_vlan(port: int) -> bytes:
    return ethernet(plain(port)[14:], vlans=[(0x8100, 12)])


def in_vxlan(port: int) -> bytes:
    return ethernet(ipv4(udp(vxlan(plain(port)), 4789), protocol=17))


@pytest.fixture
def captures(tmp_path: Path) -> list[str]:
    """Two captures that overlap, each with the three paths, met in different orders; the source port says which."""
    orders: list[list[tuple[int, Callable[[int], bytes]]]] = [
        [(1001, plain), (1012, on_vlan), (1042, in_vxlan)],
        [(2042, in_vxlan), (2001, plain), (2012, on_vlan)],
    ]
    return [
        str(
            write_pcap(
                tmp_path / f"{n}.pcap", [(i * SECOND_NS + n, make(port)) for i, (port, make) in enumerate(order)]
            )
        )
        for n, order in enumerate(orders)
    ]


EXPECTED = {
    **dict.fromkeys((1001, 2001), (0, "")),
    **dict.fromkeys((1012, 2012), (12, VLAN)),
    **dict.fromkeys((1042, 2042), (42, VXLAN)),
}


def test_segments_of_all_files_share_the_paths(captures: list[str]) -> None:
    with open_capture(captures) as capture:
        seen = {
            int(segment["src_port"]): (int(segment["tag"]), capture.info.paths[int(segment["path"])])
            for batch in capture
            for segment in batch
        }
        assert len(capture.info.paths) == 3
    assert seen == EXPECTED


@pytest.mark.parametrize("format_", ["csv", "tsv", "ndjson", "parquet", "arrow"])
def test_every_format_has_them(captures: list[str], tmp_path: Path, format_: str) -> None:
    out = tmp_path / f"flows.{format_}"
    assert main(["flows", *captures, "--format", format_, "-o", str(out)]) == 0
    match format_:
        case "ndjson":
            rows = [json.loads(line) for line in out.read_text().splitlines()]
        case "parquet":
            rows = pyarrow.parquet.read_table(out).to_pylist()
        case "arrow":
            rows = polars.read_ipc(out).to_dicts()
        case _:
            rows = list(csv.DictReader(out.read_text().splitlines(), delimiter="," if format_ == "csv" else "\t"))
    assert {int(row["client_port"]): (int(row["tag"]), row["path"]) for row in rows} == EXPECTED


def test_the_table_has_the_path_only_where_there_is_one(
    captures: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    assert main(["flows", *captures, "--format", "table"]) == 0
    heading, *rows = capfd.readouterr().out.splitlines()
    assert heading.endswith("path")
    assert sorted(row.endswith(VXLAN) for row in rows) == [False] * 4 + [True] * 2
    alone = str(write_pcap(tmp_path / "plain.pcap", [(0, plain(1))]))
    assert main(["flows", alone, "--format", "table"]) == 0
    assert "path" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("where", "ports"),
    [("path~vxlan", {1042, 2042}), ("tag=12", {1012, 2012}), (f"path='{VLAN}'", {1012, 2012})],
)
def test_where(captures: list[str], capfd: pytest.CaptureFixture[str], where: str, ports: set[int]) -> None:
    assert main(["flows", *captures, "--format", "ndjson", "--where", where]) == 0
    assert {json.loads(line)["client_port"] for line in capfd.readouterr().out.splitlines()} == ports


def test_from_python(captures: list[str]) -> None:
    report = conntrack.analyze(*captures)
    words = polars.DataFrame(
        conntrack.to_arrow(report.flows, paths=report.capture.paths, columns=["client_port", "path"])
    )
    assert dict(words.iter_rows()) == {port: path for port, (_, path) in EXPECTED.items()}
    assert polars.DataFrame(report).select("client_port", "path").equals(words)
    numbers = polars.DataFrame(conntrack.to_arrow(report.flows, columns=["path"]))["path"]
    assert set(numbers) == {"", "path 1", "path 2"}
    assert conntrack.analyze(*captures, keep_flows=False).capture.paths == ("",)
