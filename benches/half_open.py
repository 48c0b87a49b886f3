"""A flood of half-open connections, each of another 4-tuple, through a budget of memory: it ends, nothing is silent.

    python -m benches.half_open --connections 200000000 --max-memory 1073741824

The SYNs are made as they are needed and pass tracker and detectors as in `ctrack report`. Printed are the time, the
most memory that the process held, how many connections came out and of what ending, and the findings.
"""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from benches.flooding import BEGIN_NS, syns
from benches.record import commit, machine
from conntrack.capture import CaptureInfo
from conntrack.pipeline import Analysis, flow_batches
from conntrack.sharded import make_tracker
from conntrack.states import EndReason

__all__ = ["flood", "run"]

_BATCH = 65_536
_PORTS = 64
_FIRST = 0x0B000000


def flood(connections: int) -> Iterator[np.ndarray[Any, Any]]:
    """Yield so many SYNs to one service, a microsecond apart: 64 ports of every address from 11.0.0.0 on."""
    for begin in range(0, connections, _BATCH):
        numbers = np.arange(begin, min(begin + _BATCH, connections), dtype=np.uint64)
        clients = (np.uint64(_FIRST) + numbers // np.uint64(_PORTS)) << np.uint64(16) | np.uint64(
            1024
        ) + numbers % _PORTS
        segments = syns(clients.astype(np.uint64))
        segments["frame"] += np.uint64(begin)
        segments["ts_ns"] += begin * 1000
        yield segments


def run(connections: int, max_memory: int, threads: int) -> dict[str, Any]:
    """Track a flood; return what came of it."""
    tracker = make_tracker(threads=threads, max_memory=max_memory)
    analysis = Analysis()
    endings: Counter[str] = Counter()
    begun_s = time.perf_counter()
    for rows in flow_batches(flood(connections), tracker, ordered=False):
        analysis.feed(rows)
        for reason, count in zip(*np.unique(rows["end_reason"], return_counts=True), strict=True):
            endings[EndReason(int(reason)).name] += int(count)
    info = CaptureInfo(files=[], packets=connections, tcp_segments=connections)
    info.first_ts_ns, info.last_ts_ns = BEGIN_NS, BEGIN_NS + (connections - 1) * 1000
    report = analysis.report(info)
    return {
        "connections": connections,
        "max_memory": max_memory,
        "seconds": round(time.perf_counter() - begun_s, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "endings": dict(endings),
        "evicted": tracker.evicted,
        "findings": [[finding.kind, finding.subject, finding.count] for finding in report.findings],
    }


@click.command()
@click.option("--connections", default=200_000_000, show_default=True)
@click.option("--max-memory", default=1 << 30, show_default=True)
@click.option("--threads", default=1, show_default=True)
def command(connections: int, max_memory: int, threads: int) -> None:
    """Print the run as JSON."""
    document = {"commit": commit(), "machine": machine(), **run(connections, max_memory, threads)}
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    command()
