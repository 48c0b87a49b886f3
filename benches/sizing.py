"""What shared work costs, and how many machines keep up: `python -m benches.sizing CAPTURE [WORKERS...]`.

Runs the report as `ctrack report --workers N` does for each number of WORKERS (1, 2 and 4 by default), one thread each,
and prints the time of both stages, what was exchanged, and what the one process cost that hands out the work. Then it
holds `Costs.seconds`, the model, to the runs, and asks it for 1, 10 and 100 TB a day. SIZING.md has the results.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import tempfile
import time
from typing import NamedTuple

from conntrack.cluster.crew import process_crew
from conntrack.cluster.run import CHUNK_BYTES, PARTS_EACH, open_run

__all__ = ["Costs", "Measured", "main", "measure", "nodes"]

DAY_S = 86_400
BUSY = 0.7
"""Of the time a cluster is to be at work: traffic has hours, and nodes fail."""


class Measured(NamedTuple):
    """One run.

    Attributes:
        workers: processes.
        start_s: until workers have started.
        read_s, follow_s: wall time of reading and exchanging, and of following, detecting and joining.
        worker_cpu_s: CPU time of all workers.
        own_cpu_s: CPU time of the process that hands out the work.
        capture_bytes, packets, segments, packed_bytes, bytes: read; exchanged, before and after compression.
        chunks, parts: tasks of either stage.
    """

    workers: int
    start_s: float
    read_s: float
    follow_s: float
    worker_cpu_s: float
    own_cpu_s: float
    capture_bytes: int
    packets: int
    segments: int
    packed_bytes: int
    bytes: int
    chunks: int
    parts: int

    @property
    def wall_s(self) -> float:
        """Of both stages."""
        return self.read_s + self.follow_s


class Costs(NamedTuple):
    """The model: what workers do together, what each part of the connections costs beside, and what nobody can share.

    Attributes:
        worker_s: CPU time of workers, seconds a byte of capture.
        part_s: the same for a part: its findings are written, read and put together. There are eight parts a worker.
        serial_s: CPU time of the process that hands out the work, seconds a chunk of CHUNK_BYTES.
        exchanged: bytes written, and read again, for a byte of capture.
    """

    worker_s: float
    part_s: float
    serial_s: float
    exchanged: float

    @classmethod
    def of(cls, one: Measured, many: Measured) -> Costs:
        """Return the costs that a run with one worker and one with the most show."""
        part_s = (many.worker_cpu_s - one.worker_cpu_s) / (many.parts - one.parts)
        size = one.capture_bytes
        worker_s = (one.worker_cpu_s - part_s * one.parts) / size
        return cls(worker_s, part_s, one.own_cpu_s / one.chunks, one.bytes / size)

    def seconds(self, capture_bytes: int, workers: int, cores: int) -> float:
        """Return the wall time that `workers` on `cores` need."""
        shared_s = capture_bytes * self.worker_s + PARTS_EACH * workers * self.part_s
        return shared_s / min(workers, cores) + math.ceil(capture_bytes / CHUNK_BYTES) * self.serial_s

    @property
    def most_bytes_per_s(self) -> float:
        """What one process can hand out, however many workers there are."""
        return CHUNK_BYTES / self.serial_s


def nodes(costs: Costs, bytes_a_day: float, cores: int, efficiency: float) -> int:
    """Return how many machines of `cores` keep up with so much a day, at `efficiency` of what one core does alone."""
    return math.ceil(bytes_a_day * costs.worker_s / (DAY_S * BUSY * cores * efficiency))


def measure(capture: str, workers: int, chunk_bytes: int = CHUNK_BYTES) -> Measured:
    """Run the report with so many processes."""
    crew = process_crew(workers)
    began_s, own_s, children_s = time.perf_counter(), _cpu_s(resource.RUSAGE_SELF), _cpu_s(resource.RUSAGE_CHILDREN)
    with crew, tempfile.TemporaryDirectory() as room:
        list(crew.run(os.getpid, ((),) * (2 * workers)))  # started, and what they import
        started_s = time.perf_counter()
        with open_run([capture], crew, directory=room, chunk_bytes=chunk_bytes) as run:
            read_s = time.perf_counter()
            run.analysis().report(run.info)
            done_s, at, info = time.perf_counter(), run.shuffle.at, run.info
    return Measured(
        workers=workers,
        start_s=started_s - began_s,
        read_s=read_s - started_s,
        follow_s=done_s - read_s,
        worker_cpu_s=_cpu_s(resource.RUSAGE_CHILDREN) - children_s,
        own_cpu_s=_cpu_s(resource.RUSAGE_SELF) - own_s,
        capture_bytes=info.bytes,
        packets=info.packets,
        segments=at.segments,
        packed_bytes=at.packed_bytes,
        bytes=at.bytes,
        chunks=at.jobs,
        parts=PARTS_EACH * workers,
    )


def _cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def main(arguments: list[str]) -> int:
    """Measure, hold the model to it, and print both."""
    if not arguments:
        print("usage: python -m benches.sizing CAPTURE [WORKERS...]", file=sys.stderr)
        return 2
    capture, counts = arguments[0], [int(one) for one in arguments[1:]] or [1, 2, 4]
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f} when it began")
    runs = []
    for workers in counts:
        runs.append(measure(capture, workers))
        one = runs[-1]
        print(
            f"{workers} workers: {one.wall_s:.2f} s ({one.read_s:.2f} reading, {one.follow_s:.2f} following), "
            f"started in {one.start_s:.2f}; CPU {one.worker_cpu_s:.2f} s in workers, {one.own_cpu_s:.2f} s beside; "
            f"{one.packets / one.wall_s / 1e6:.2f} M packets/s; {one.chunks} chunks; a segment: "
            f"{one.packed_bytes / one.segments:.1f} B exchanged, {one.bytes / one.segments:.1f} B compressed",
            flush=True,
        )
    if runs[0].workers != 1 or len(runs) < 2:
        return 0
    costs = Costs.of(runs[0], runs[-1])
    for one in runs:
        modelled_s = costs.seconds(one.capture_bytes, one.workers, cores)
        faster = runs[0].wall_s / one.wall_s
        print(f"{one.workers} workers: model {modelled_s:.2f} s, run {one.wall_s:.2f} s, {faster:.2f} times one")
    best = min(runs, key=lambda one: one.wall_s)
    efficiency = min(1.0, runs[0].wall_s / best.wall_s / min(cores, best.workers))
    print(f"efficiency {efficiency:.2f}; handed out at most {costs.most_bytes_per_s / 1e9:.1f} GB/s")
    for terabytes in (1, 10, 100):
        moved = terabytes * 1e12 * costs.exchanged
        print(
            f"{terabytes} TB a day: {nodes(costs, terabytes * 1e12, cores, efficiency)} nodes like this, "
            f"{nodes(costs, terabytes * 1e12, 16, efficiency)} of 16 cores; {moved / 1e12:.2f} TB exchanged, "
            f"{moved / DAY_S / 1e6:.0f} MB/s written and read on average"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
