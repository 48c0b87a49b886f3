"""How fast it is on this machine: a made-up capture, read in stages. Prints nothing; cli/bench.py does.

Owns the stages and what is measured of each. The capture is generated (generate, seed SEED), so that two machines, or
two versions, measure the same work; times are medians of ROUNDS, each stage with everything before it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from conntrack.capture import open_capture
from conntrack.generate import generate
from conntrack.pipeline import analyze
from conntrack.sharded import default_threads
from conntrack.tracker import Tracker

__all__ = ["ROUNDS", "SEED", "Measured", "Stage", "measure", "measure_stages"]

SEED = 20
ROUNDS = 3
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, with everything before it.

    Attributes:
        name: "read", "decode", "track", "rows", "report", "report, N threads".
        seconds: median.
        ns_a_packet: the same for each packet.
    """

    name: str
    seconds: float
    ns_a_packet: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured.

    Attributes:
        packets, bytes, connections: of the capture.
        stages: each with everything before it.
        bytes_a_connection: of the tracker's memory at the end of the capture, by its own account (Tracker.bytes_used),
            for each connection in it; index included.
        peak_bytes: the most memory that this process has ever held.
        load_1m: of the machine, when it began.
    """

    packets: int
    bytes: int
    connections: int
    stages: tuple[Stage, ...]
    bytes_a_connection: float
    peak_bytes: int
    load_1m: float


def measure(connections: int = 50_000, *, threads: int | None = None) -> Measured:
    """Generate a capture in a temporary directory, about 14 packets a connection, and measure.

    Args:
        connections: how many; the default takes 10 to 20 s.
        threads: of the last stage; one for each core by default.
    """
    import resource

    load = os.getloadavg()[0]
    threads = default_threads() if threads is None else threads
    with tempfile.TemporaryDirectory(prefix="ctrack-bench-") as folder:
        path = Path(folder) / "made.pcap"
        with path.open("wb") as out:
            truth = generate(out, connections=connections, seed=SEED)
        trackers: list[Tracker] = []
        stages = tuple(measure_stages(path, truth["packets"], threads, trackers))
        size = path.stat().st_size
    return Measured(
        packets=truth["packets"],
        bytes=size,
        connections=truth["connections"],
        stages=stages,
        bytes_a_connection=trackers[-1].bytes_used / max(len(trackers[-1]), 1),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        load_1m=load,
    )


def measure_stages(
    path: Path, packets: int, threads: int, trackers: list[Tracker], *, rounds: int = ROUNDS
) -> Iterator[Stage]:
    """Yield each stage of a report on a capture of so many packets, one after the other.

    "read" is the file's bytes; "decode" makes segments of them; "track" steps them, and makes rows of the connections
    that are over meanwhile; "rows" makes rows of all that are left, too; "report" is analyze() with every detector,
    and with more than one thread again with those.

    Args:
        path, packets: the capture.
        threads: of the last stage, which is left out for one.
        trackers: holds the tracker of the stage "track" afterwards, with what was left in its table.
        rounds: the median of so many is taken.
    """

    def tracked() -> Tracker:
        tracker = Tracker()
        tracker.deliver_to([lambda rows: None])
        with open_capture([path]) as capture:
            for segments in capture:
                tracker.process(segments)
        return tracker

    def track() -> None:
        trackers[:] = [tracked()]

    def rows() -> None:
        for _ in tracked().finish():
            raise AssertionError("rows are delivered")

    works: list[tuple[str, Callable[[], object]]] = [
        ("read", lambda: _read(path)),
        ("decode", lambda: _decode(path)),
        ("track", track),
        ("rows", rows),
        ("report", lambda: analyze(path, keep_flows=False, threads=1)),
    ]
    if threads > 1:
        works.append((f"report, {threads} threads", lambda: analyze(path, keep_flows=False, threads=threads)))
    for name, work in works:
        times = []
        for _ in range(rounds):
            begin = perf_counter()
            work()
            times.append(perf_counter() - begin)
        yield Stage(name, median(times), median(times) * 1e9 / packets)


def _read(path: Path) -> None:
    room = bytearray(_BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(room):
            pass


def _decode(path: Path) -> None:
    with open_capture([path]) as capture:
        for _ in capture:
            pass
