"""`ctrack sockets` against `ss -tanOe`, socket by socket, on the host that this runs on.

ss is asked before and after: what is the same in both must be in ours as it is, and what is in ours must be in one of
them; only what changed meanwhile is let off, and counted. Prints what it found as JSON.
"""

from __future__ import annotations

import io
import ipaddress
import json
import re
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout
from typing import Any

from conntrack.cli import main

SS_STATES = {
    "ESTAB": "ESTABLISHED",
    "SYN-SENT": "SYN_SENT",
    "SYN-RECV": "SYN_RECEIVED",
    "FIN-WAIT-1": "FIN_WAIT_1",
    "FIN-WAIT-2": "FIN_WAIT_2",
    "TIME-WAIT": "TIME_WAIT",
    "UNCONN": "CLOSED",
    "CLOSE-WAIT": "CLOSE_WAIT",
    "LAST-ACK": "LAST_ACK",
    "LISTEN": "LISTEN",
    "CLOSING": "CLOSING",
}

Row = tuple[Any, ...]
"""(state, local ip, port, remote ip, port, Recv-Q, Send-Q, inode, cookie)."""


def _end(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    address = address.strip("[]").split("%")[0]
    number = 0 if port == "*" else int(port)
    if address == "*":
        return "*", number
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip), number


def of_ss() -> Counter[Row]:
    command = ["ss", "-tanOeH"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows: Counter[Row] = Counter()
    for line in done.stdout.splitlines():
        state, received, sent, local, remote, *_ = line.split()
        inode = re.search(r"\bino:(\d+)", line)
        cookie = re.search(r"\bsk:([0-9a-f]+)", line)
        ends = (*_end(local), *_end(remote))
        queues = (int(received), int(sent))
        rows[
            (SS_STATES[state], *ends, *queues, int(inode[1]) if inode else 0, int(cookie[1], 16) if cookie else 0)
        ] += 1
    return rows


def ours() -> Counter[Row]:
    out = io.TextIOWrapper(io.BytesIO())
    with redirect_stdout(out):
        assert main(["sockets", "--format", "ndjson"]) == 0
    out.flush()
    rows: Counter[Row] = Counter()
    for line in out.buffer.getvalue().splitlines():
        row = json.loads(line)
        listens = row["state"] == "LISTEN"
        # ss prints "*" for a socket for both families, and for nobody's address.
        ends = []
        for end in ("local", "remote"):
            ip = "*" if listens and row[f"{end}_ip"] == "::" else row[f"{end}_ip"]
            ends += [ip, row[f"{end}_port"]]
        queues = (row["recv_queue"], row["send_queue"])
        rows[(row["state"], *ends, *queues, row["inode"], row["flow_id"])] += 1
    return rows


def _known(rows: Counter[Row]) -> Counter[Row]:
    """`ss` writes [::] for a socket of one family and * for both, which our rows do not tell apart."""
    known: Counter[Row] = Counter()
    for (state, local, local_port, remote, remote_port, *rest), number in rows.items():
        if state == "LISTEN":
            local = "*" if local == "::" else local
            remote = {"::": "*"}.get(remote, remote)
        known[(state, local, local_port, remote, remote_port, *rest)] += number
    return known


def compare() -> int:
    before, mine, after = _known(of_ss()), _known(ours()), _known(of_ss())
    stable = before & after
    result = {
        "sockets": sum(mine.values()),
        "states": Counter(row[0] for row in mine.elements()),
        "stable": sum(stable.values()),
        "missing": sorted(map(str, (stable - mine).elements()))[:20],
        "extra": sorted(map(str, (mine - (before | after)).elements()))[:20],
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(compare())
