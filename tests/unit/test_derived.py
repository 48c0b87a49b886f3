"""Columns known from other tools, against the tools' own published values."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import struct
from typing import Any

import numpy as np
import pytest

from conntrack.core.abi import FLOW_DTYPE
from conntrack.derived import (
    FLOW_END_REASONS,
    ZEEK_CONN_STATES,
    community_id,
    flow_end_reason,
    handshake_rtt_client_ns,
    handshake_rtt_server_ns,
    zeek_conn_state,
)
from conntrack.states import NO_TIME_NS, EndReason


def flow(**fields: Any) -> np.ndarray[Any, Any]:
    """One connection; times are unknown unless given."""
    row = np.zeros(1, FLOW_DTYPE)
    for name in FLOW_DTYPE.names or ():
        if name.endswith("_ts_ns"):
            row[name] = NO_TIME_NS
    for name, value in fields.items():
        row[name] = value
    return row


def between(client: str, client_port: int, server: str, server_port: int) -> np.ndarray[Any, Any]:
    ends = [ipaddress.ip_address(address) for address in (client, server)]
    packed = [(bytes(10) + b"\xff\xff" + end.packed if end.version == 4 else end.packed) for end in ends]
    return flow(
        client_ip=np.frombuffer(packed[0], np.uint8),
        server_ip=np.frombuffer(packed[1], np.uint8),
        client_port=client_port,
        server_port=server_port,
        ip_version=ends[0].version,
    )


# baseline/baseline_deflt.json of the specification's repository, corelight/community-id-spec
def test_community_id_of_the_specification() -> None:
    forth = between("128.232.110.120", 34855, "66.35.250.204", 80)
    back = between("66.35.250.204", 80, "128.232.110.120", 34855)
    assert community_id(np.concatenate((forth, back))).tolist() == [b"1:LQU9qZlK+B5F3KDmev6m5PMibrg="] * 2


def test_community_id_is_of_the_connection_not_the_direction_in_ipv6_and_on_equal_addresses() -> None:
    for one, other in (
        (("2001:db8::1", 5, "2001:db8::2", 4), ("2001:db8::2", 4, "2001:db8::1", 5)),
        (("10.0.0.1", 5, "10.0.0.1", 4), ("10.0.0.1", 4, "10.0.0.1", 5)),
    ):
        assert community_id(between(*one)) == community_id(between(*other))
    assert community_id(between("2001:db8::1", 5, "2001:db8::2", 4)) != community_id(between("::1", 5, "::2", 4))


def test_community_id_of_a_mixed_batch_keeps_rows_apart() -> None:
    rows = np.concatenate(
        [between("::1", 1, "::2", 2), between("1.0.0.1", 1, "1.0.0.2", 2), between("::1", 1, "::2", 2)]
    )
    ids = community_id(rows)
    assert ids[0] == ids[2] != ids[1]
    assert [community_id(rows[at : at + 1])[0] for at in range(3)] == ids.tolist()
    assert community_id(rows[:0]).shape == (0,)


@pytest.mark.parametrize("seed", [0, 1, 65_535])
def test_community_id_is_what_hashlib_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = np.zeros(301, FLOW_DTYPE)
    rows["client_ip"], rows["server_ip"] = random.integers(0, 256, (2, 301, 16))
    rows["server_ip"][::9] = rows["client_ip"][::9]
    rows["client_port"], rows["server_port"] = random.integers(0, 2**16, (2, 301))
    rows["ip_version"] = random.choice([4, 6], 301)
    expected = []
    for row in rows:
        first = 12 if row["ip_version"] == 4 else 0
        ends = sorted((bytes(row[f"{end}_ip"]), int(row[f"{end}_port"])) for end in ("client", "server"))
        message = struct.pack(">H", seed) + b"".join(address[first:] for address, _ in ends) + b"\x06\x00"
        digest = hashlib.sha1(message + struct.pack(">HH", ends[0][1], ends[1][1])).digest()
        expected.append(b"1:" + base64.b64encode(digest))
    assert community_id(rows, seed=seed).tolist() == expected
    assert community_id(rows[7::3], seed=seed).tolist() == expected[7::3]


SYN = {"client_syns": 1, "client_packets": 1}
OPEN = {"client_syns": 1, "server_syns": 1, "client_packets": 2, "server_packets": 1}


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ("S0", SYN),
        ("S1", OPEN),
        ("SF", OPEN | {"client_fins": 1, "server_fins": 1}),
        ("SF", OPEN | {"client_fins": 1, "server_fins": 1, "client_rsts": 1}),  # a RST after both FINs changes nothing
        ("REJ", SYN | {"server_rsts": 1, "server_packets": 1}),
        ("S2", OPEN | {"client_fins": 1}),
        ("S3", OPEN | {"server_fins": 1}),
        ("RSTO", OPEN | {"client_rsts": 1, "client_payload_bytes": 9}),
        ("RSTO", OPEN | {"client_rsts": 1, "client_fins": 1}),
        ("RSTR", OPEN | {"server_rsts": 1}),
        ("RSTOS0", SYN | {"client_rsts": 1}),
        ("RSTRH", {"server_syns": 1, "server_rsts": 1, "server_packets": 2}),
        ("SH", SYN | {"client_fins": 1}),
        ("SHR", {"server_syns": 1, "server_fins": 1, "server_packets": 2}),
        ("OTH", {"client_packets": 3, "server_packets": 3}),
        ("OTH", {"server_syns": 1, "server_packets": 1}),  # "^h" in Zeek's baselines
    ],
)
def test_zeek_conn_state(state: str, fields: dict[str, int]) -> None:
    assert ZEEK_CONN_STATES[zeek_conn_state(flow(**fields))[0]] == state


def test_handshake_times() -> None:
    seen = flow(syn_ts_ns=100, synack_ts_ns=350, established_ts_ns=360, client_syns=1, server_syns=1)
    assert handshake_rtt_server_ns(seen)[0] == 250
    assert handshake_rtt_client_ns(seen)[0] == 10


@pytest.mark.parametrize(
    "fields",
    [
        {"client_syns": 2, "server_syns": 2, "syn_ts_ns": 1, "synack_ts_ns": 2, "established_ts_ns": 3},  # ambiguous
        {
            "client_syns": 1,
            "server_syns": 1,
            "syn_ts_ns": 3,
            "synack_ts_ns": 2,
            "established_ts_ns": 1,
        },  # clock went back
        {"client_syns": 1, "server_syns": 1},
    ],
)
def test_handshake_times_are_unknown_rather_than_wrong(fields: dict[str, int]) -> None:
    assert handshake_rtt_server_ns(flow(**fields))[0] == NO_TIME_NS
    assert handshake_rtt_client_ns(flow(**fields))[0] == NO_TIME_NS


# RFC 5102 section 5.11.3: 1 idle timeout, 2 active timeout, 3 end of flow detected, 4 forced end, 5 lack of resources
@pytest.mark.parametrize(
    ("reason", "number"),
    [
        (EndReason.OPEN_AT_END, 4),
        (EndReason.FIN, 3),
        (EndReason.RESET, 3),
        (EndReason.REFUSED, 3),
        (EndReason.TIMEOUT, 1),
        (EndReason.REPLACED, 3),
        (EndReason.EVICTED, 5),
    ],
)
def test_flow_end_reason(reason: EndReason, number: int) -> None:
    assert flow_end_reason(flow(end_reason=reason)).tolist() == [number]


@pytest.mark.parametrize(("client_acked", "server_acked", "number"), [(1, 2, 3), (1, None, 4), (None, 2, 4)])
def test_flow_end_reason_when_only_time_wait_was_left(
    client_acked: int | None, server_acked: int | None, number: int
) -> None:
    times = {"client_fin_acked_ts_ns": client_acked, "server_fin_acked_ts_ns": server_acked}
    row = flow(end_reason=EndReason.OPEN_AT_END, **{name: ts for name, ts in times.items() if ts is not None})
    assert flow_end_reason(row).tolist() == [number]


def test_every_end_has_a_flow_end_reason_and_none_is_cut_in_two() -> None:
    every = np.concatenate([flow(end_reason=reason) for reason in EndReason])
    numbers = flow_end_reason(every)
    assert numbers.dtype == np.uint8
    assert set(numbers.tolist()) == set(FLOW_END_REASONS.values()) == {1, 3, 4, 5}
