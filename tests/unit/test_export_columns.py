"""The schema is that of the promise to users, and what the exporters write can be read back by anybody's parser."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from conntrack.core.abi import FLOW_DTYPE
from conntrack.export import FLOW_FORMATS, FLOW_SUFFIXES, FORMATS, SUFFIXES, make_exporter
from conntrack.export.columns import COLUMNS, render_markdown
from conntrack.states import NO_TIME_NS

PROMISED = """
flow_id community_id generation client_ip client_port server_ip server_port direction_evidence
client_state server_state client_state_evidence server_state_evidence first_ts last_ts duration_s closed_by end_reason
client_packets client_payload_bytes client_wire_bytes client_unique_bytes client_retransmits client_out_of_order
client_gap_bytes client_zero_windows client_syns client_fins client_rsts
server_packets server_payload_bytes server_wire_bytes server_unique_bytes server_retransmits server_out_of_order
server_gap_bytes server_zero_windows server_syns server_fins server_rsts
syn_ts synack_ts established_ts client_fin_ts server_fin_ts reset_ts closed_ts
handshake_rtt_client_s handshake_rtt_server_s reused_time_wait_age_s
flags tag path zeek_conn_state zeek_history tcp_completeness flow_end_reason schema
""".split()  # noqa: SIM905 (a list this long reads better so)


def many_flows(count: int = 10_000) -> np.ndarray[Any, Any]:
    """Connections with every value that a field can have, unknown times among them."""
    random = np.random.default_rng(7)
    flows = np.zeros(count, FLOW_DTYPE)
    for name in FLOW_DTYPE.names or ():
        kind = FLOW_DTYPE[name]
        if kind.kind == "i":
            flows[name] = random.integers(-(2**63), 2**63 - 1, count)
            flows[name][random.random(count) < 0.3] = NO_TIME_NS
        elif kind.kind == "u":
            flows[name] = random.integers(0, 2 ** (8 * kind.itemsize), count, dtype=kind)
        elif name.endswith("_ip"):
            flows[name] = random.integers(0, 256, (count, 16))
    flows["history"][:, :9] = np.frombuffer(b"^ShADadRr", np.uint8)
    flows["ip_version"] = random.choice([4, 6], count)
    for column in COLUMNS:
        if column.kind.value == "word" and not column.name.startswith("zeek"):
            flows[column.name] %= len(column.words)
    return flows


def test_columns_are_the_promised_ones_in_their_order() -> None:
    assert [column.name for column in COLUMNS] == PROMISED


@pytest.mark.parametrize(("name", "separator"), [("csv", ","), ("tsv", "\t")])
def test_delimited_rows_need_no_quoting(name: str, separator: str) -> None:
    flows = many_flows()
    exporter = make_exporter(name)
    text = (exporter.header() + exporter.rows(flows)).decode("ascii")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    assert rows[0] == PROMISED
    assert len(rows) == len(flows) + 1
    assert {len(row) for row in rows} == {len(PROMISED)}
    assert text.count("\n") == len(rows)
    assert '"' not in text


def test_ndjson_says_the_same_as_csv() -> None:
    flows = many_flows(5_000)
    objects = [json.loads(line, parse_float=str) for line in make_exporter("ndjson").rows(flows).splitlines()]
    rows = csv.DictReader(io.StringIO((make_exporter("csv").header() + make_exporter("csv").rows(flows)).decode()))
    for seen, row in zip(objects, rows, strict=True):
        assert list(seen) == PROMISED
        flat = {key: "|".join(value) if isinstance(value, list) else value for key, value in seen.items()}
        assert {key: "" if value is None else str(value) for key, value in flat.items()} == row


def test_the_age_of_a_reused_time_wait_is_there_or_nothing() -> None:
    flows = many_flows(2)
    flows["reused_age_ns"] = (12_500_000_001, NO_TIME_NS)
    lines = make_exporter("ndjson").rows(flows).splitlines()
    assert b'"reused_time_wait_age_s":12.500000001,' in lines[0]
    assert b'"reused_time_wait_age_s":null,' in lines[1]


@pytest.mark.parametrize("name", FORMATS)
def test_any_split_into_batches_gives_the_same_bytes(name: str) -> None:
    flows = many_flows(3_000)
    if name == "table":  # widths follow the first batch
        flows = np.repeat(flows[:1], 3_000)
    whole, split = make_exporter(name), make_exporter(name)
    parts = [flows[:1], flows[1:1000], flows[1000:]]
    assert whole.rows(flows) == b"".join(split.rows(part) for part in parts)


@pytest.mark.parametrize("name", FORMATS)
def test_no_rows_write_nothing(name: str) -> None:
    assert make_exporter(name).rows(np.zeros(0, FLOW_DTYPE)) == b""


def test_every_suffix_has_its_format() -> None:
    assert set(SUFFIXES.values()) == set(FORMATS)
    assert set(FLOW_SUFFIXES.values()) == set(FLOW_FORMATS)
    with pytest.raises(ValueError, match="no format 'xml'; there are table, tsv"):
        make_exporter("xml")


def test_markdown_lists_every_column_once() -> None:
    lines = render_markdown().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == PROMISED
    assert all(line.replace("\\|", "").count("|") == 4 for line in lines)
