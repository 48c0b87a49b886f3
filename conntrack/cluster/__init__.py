"""The same pipeline past one core, one memory, one machine: on an Executor, with segments exchanged by connection.

Workers read chunks of captures and sort the segments into parts of whole connections, in files; then each part is
tracked in order of time, and what detectors say is put together. The result is that of one thread, whatever the number
of workers and the size of chunks. `analyze`, `track` and `write_parquet` are the doors; run.py has the stages. Without
an exchange, on one machine and within it: spill.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    import numpy as np

    from conntrack.cluster.crew import Crew
    from conntrack.cluster.run import Run
    from conntrack.detect.options import DetectOptions
    from conntrack.report.model import Report

__all__ = ["analyze", "track", "write_parquet"]

Path = str | os.PathLike[str]


def analyze(
    *paths: Path,
    workers: int | None = None,
    address: str | None = None,
    executor: Executor | None = None,
    directory: str | None = None,
    profile: str = "linux",
    tag_in_key: bool = False,
    options: DetectOptions | None = None,
    filter: str | None = None,
    chunk_bytes: int | None = None,
    parts: int | None = None,
) -> Report:
    """Return what is wrong with the TCP connections of captures, found by several workers; as conntrack.analyze.

    `report.flows` is None; `track` and `write_parquet` have the connections. A script that calls this with `workers`
    needs `if __name__ == "__main__":` around it: worker processes import it.

    Args:
        paths: captures, taken as one in order of time. Workers open them by these names.
        workers: processes on this machine; one for each core by default.
        address: of a Dask scheduler ("tcp://host:8786"), whose workers do it instead.
        executor: any other that does it; with `workers`, how many it has.
        directory: where workers exchange segments (30 to 40 bytes each), the same for all of them. By default a
            directory for temporary files, on this machine.
        profile: whose timers the hosts keep (timeouts.PROFILES).
        tag_in_key: the VLAN ids or the tunnel's identifier are part of what makes a connection (Tracker).
        options: thresholds of the detectors.
        filter: only frames that pass this expression of pcap-filter(7) are decoded.
        chunk_bytes: of a capture that one task reads; 64 MiB by default.
        parts: how many parts of the connections there are; eight a worker by default.

    Raises:
        InputError: an input cannot be opened, or the scheduler does not answer.
        ConntrackError: the directory cannot be written to, or workers die again and again.
    """
    with _run(
        paths, _crew(workers, address, executor), directory, profile, tag_in_key, filter, chunk_bytes, parts
    ) as run:
        return run.analysis(options).report(run.info)


def track(
    *paths: Path,
    workers: int | None = None,
    address: str | None = None,
    executor: Executor | None = None,
    directory: str | None = None,
    profile: str = "linux",
    tag_in_key: bool = False,
    filter: str | None = None,
    chunk_bytes: int | None = None,
    parts: int | None = None,
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the connections of captures in batches of FLOW_DTYPE, each once, in no particular order.

    Arguments and errors are those of `analyze`; and CaptureError, at the end, if an input is damaged or cut short.
    """
    with _run(
        paths, _crew(workers, address, executor), directory, profile, tag_in_key, filter, chunk_bytes, parts
    ) as run:
        yield from run.flows()
        if run.info.faults:
            raise run.info.faults[0]


def write_parquet(
    *paths: Path,
    to: Path,
    workers: int | None = None,
    address: str | None = None,
    executor: Executor | None = None,
    directory: str | None = None,
    profile: str = "linux",
    tag_in_key: bool = False,
    filter: str | None = None,
    chunk_bytes: int | None = None,
    parts: int | None = None,
) -> int:
    """Write the connections of captures as Parquet, one file a part, by the workers; return how many there are.

    The columns are those of `ctrack flows --format parquet`; needs pyarrow where the workers are.

    Args:
        paths: captures.
        to: a directory that all workers see; made if it is not there. Files in it are part-00000.parquet and so on.
        workers, address, executor, directory, profile, tag_in_key, filter, chunk_bytes, parts: as of `analyze`.

    Raises:
        InputError, ConntrackError: as `analyze`.
        CaptureError: an input is damaged or cut short; all that came before was written.
    """
    os.makedirs(to, exist_ok=True)
    with _run(
        paths, _crew(workers, address, executor), directory, profile, tag_in_key, filter, chunk_bytes, parts
    ) as run:
        connections = run.write_parquet(os.fspath(to))
        if run.info.faults:
            raise run.info.faults[0]
        return connections


def _run(
    paths: tuple[Path, ...],
    crew: Crew,
    directory: str | None,
    profile: str,
    tag_in_key: bool,
    filter: str | None,
    chunk_bytes: int | None,
    parts: int | None,
) -> AbstractContextManager[Run]:
    from conntrack.cluster.run import CHUNK_BYTES, open_run

    return open_run(
        [os.fspath(path) for path in paths],
        crew,
        directory=directory,
        profile=profile,
        tag_in_key=tag_in_key,
        part={"filter": filter},
        chunk_bytes=chunk_bytes or CHUNK_BYTES,
        parts=parts,
    )


def _crew(workers: int | None, address: str | None, executor: Executor | None) -> Crew:
    from conntrack.cluster.crew import Crew, dask_crew, process_crew

    if executor is not None:
        given = executor
        return Crew(lambda: given, workers or os.cpu_count() or 1, own=False)
    if address is not None:
        return dask_crew(address)
    return process_crew(workers or len(os.sched_getaffinity(0)))
