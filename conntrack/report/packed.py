"""Numbers for the page, small and exact: columns as base64 of little-endian arrays, series cut to what a screen shows.

page/data.js reads them back. Knows connections and series, and no HTML.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from conntrack.addresses import ip_text
from conntrack.derived import handshake_rtt_client_ns, handshake_rtt_server_ns
from conntrack.report.chosen import signs_of
from conntrack.states import NO_TIME_NS

__all__ = ["pack", "pack_rows", "reduced"]

Array = np.ndarray[Any, Any]

_SECOND_NS = 10**9


def pack(values: Array) -> dict[str, str]:
    """Return an array as {"t": type, "d": base64}: u1, u2 or u4 for whole numbers that fit, else f8; reals as they are.

    Whole numbers of 2^53 and more lose their last digits, as every number in JavaScript does.
    """
    kind = "f4" if values.dtype == np.float32 else "f8"
    if values.dtype.kind in "ui" and values.min(initial=0) >= 0:
        highest = int(values.max(initial=0))
        kind = next((name for name, bits in (("u1", 8), ("u2", 16), ("u4", 32)) if highest < 1 << bits), "f8")
    data = np.ascontiguousarray(values, dtype="<" + kind)
    return {"t": kind, "d": base64.b64encode(data.tobytes()).decode("ascii")}


def pack_rows(flows: Array, origin_s: int) -> dict[str, Any]:
    """Return `flows` (FLOW_DTYPE, shape (n,)) as columns for the table, with their addresses as a list of strings.

    Times are seconds since `origin_s` (unix seconds), lengths of time have the 7 digits of a float32; NaN stands for
    what is not known. Addresses come in the order of their bytes, so that their numbers sort as they do. The columns
    `tag` and `reused` are there if a row has one.
    """
    ends: Array = np.concatenate([_tagged(flows, "client"), _tagged(flows, "server")])
    distinct, which = np.unique(ends, return_inverse=True)
    raw = distinct.view(np.uint8).reshape(-1, 17)
    names = [ip_text(ip[1:].tobytes(), int(ip[0])) for ip in raw]
    first = flows["first_ts_ns"]
    columns = {
        "id": flows["flow_id"],
        "client_ip": which[: len(flows)].astype(np.uint32),
        "client_port": flows["client_port"],
        "server_ip": which[len(flows) :].astype(np.uint32),
        "server_port": flows["server_port"],
        "start": (first - origin_s * _SECOND_NS) / _SECOND_NS,
        "duration": ((flows["last_ts_ns"] - first) / _SECOND_NS).astype(np.float32),
        "handshake": _handshake(flows).astype(np.float32),
        **_if_any(flows),
        "signs": signs_of(flows),
        **{
            name: flows[name]
            for side in ("client", "server")
            for name in (
                f"{side}_state",
                f"{side}_state_evidence",
                f"{side}_payload_bytes",
                f"{side}_packets",
                f"{side}_retransmits",
                f"{side}_zero_windows",
                f"{side}_gap_bytes",
            )
        },
        **{name: flows[name] for name in ("end_reason", "closed_by", "flags")},
    }
    return {"ips": names, "rows": len(flows), "columns": {name: pack(values) for name, values in columns.items()}}


def _if_any(flows: Array) -> dict[str, Array]:
    """Return the columns that few captures have anything for."""
    ages = flows["reused_age_ns"]
    columns = {"tag": flows["tag"]} if flows["tag"].any() else {}
    if (ages != NO_TIME_NS).any():
        columns["reused"] = np.where(ages != NO_TIME_NS, ages / _SECOND_NS, np.nan).astype(np.float32)
    return columns


def _tagged(flows: Array, side: str) -> Array:
    """Return the addresses of one side with the IP version before them: V17, shape (n,)."""
    tagged = np.empty((len(flows), 17), np.uint8)
    tagged[:, 0] = flows["ip_version"]
    tagged[:, 1:] = flows[f"{side}_ip"]
    # As bytes, because numpy orders those; the last octet of an address may be NUL, which dtype S would cut.
    return tagged.view("V17").reshape(-1) if len(flows) else np.empty(0, "V17")


def _handshake(flows: Array) -> Array:
    """Return SYN to the ACK of the SYN+ACK in seconds, NaN where either way is not known."""
    ways = [handshake_rtt_server_ns(flows), handshake_rtt_client_ns(flows)]
    known = (ways[0] != NO_TIME_NS) & (ways[1] != NO_TIME_NS)
    return np.where(known, (np.where(known, ways[0], 0) + np.where(known, ways[1], 0)) / _SECOND_NS, np.nan)


def reduced(values: Sequence[int], points: int) -> list[int]:
    """Return `values` with at most `points` of them: of each stretch the lowest and the highest, in their order.

    No peak is lost, however short; an instant is right to within its stretch. Every series of the same length and
    `points` has the same stretches: value 2k and 2k+1 are of stretch k.
    """
    if len(values) <= points:
        return list(values)
    buckets = points // 2
    kept: list[int] = []
    for bucket in range(buckets):
        part = values[bucket * len(values) // buckets : (bucket + 1) * len(values) // buckets]
        low, high = min(part), max(part)
        kept += [low, high] if part.index(low) <= part.index(high) else [high, low]
    return kept
