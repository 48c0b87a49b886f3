"""One run: captures read by many workers, parts tracked by them, findings put together, rows handed out.

Owns the directory by which workers exchange, which is there for the run and gone after it, and the order of the stages.
Nothing is decided by who does what, or when: the result is that of one thread.
"""

from __future__ import annotations

import errno
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from conntrack.capture import CaptureInfo
from conntrack.cluster.crew import Crew
from conntrack.cluster.exchange import Exchange, write_whole
from conntrack.cluster.shuffle import Shuffle
from conntrack.cluster.tasks import PartDone, PartJob, join_findings, read_rows, track_part
from conntrack.detect import DetectOptions
from conntrack.errors import ConntrackError
from conntrack.pipeline import Analysis

__all__ = ["CHUNK_BYTES", "Run", "open_run"]

Rows = np.ndarray[Any, Any]

CHUNK_BYTES = 64 << 20
"""Of a capture that one task reads: half a second of work, and a hundred times what it costs to hand it out."""
PARTS_EACH = 8
"""Parts a worker, at least: so that a large one does not keep all others waiting."""
JOINED = 8
"""Findings put together by one task."""
_PIECES = "pieces"


class Run:
    """Captures that were read into an exchange.

    Attributes:
        info: the account of the captures.
        shuffle: what was exchanged.
    """

    def __init__(self, exchange: Exchange, crew: Crew, shuffle: Shuffle, profile: str) -> None:
        self.shuffle = shuffle
        self._exchange = exchange
        self._crew = crew
        self._profile = profile
        write_whole(exchange.path(_PIECES), pickle.dumps(shuffle.pieces))

    @property
    def info(self) -> CaptureInfo:
        return self.shuffle.info

    def analysis(self, options: DetectOptions | None = None, *, choose: bool = False) -> Analysis:
        """Return what the detectors say of all connections.

        Args:
            options: thresholds.
            choose: keep the connections that are worth showing.
        """
        level = [done.findings for done in self._parts(options=options or DetectOptions(), choose=choose)]
        names = [name for name in level if name is not None]
        joined = 0
        while len(names) > 1:
            groups = [names[at : at + JOINED] for at in range(0, len(names), JOINED)]
            jobs = [(self._exchange, group, f"joined-{joined + i:05}") for i, group in enumerate(groups)]
            joined += len(jobs)
            names = list(self._crew.run(join_findings, jobs))
        analysis: Analysis = pickle.loads(Path(self._exchange.path(names[0])).read_bytes())
        return analysis

    def flows(self) -> Iterator[Rows]:
        """Yield every connection once, in batches of FLOW_DTYPE, in no particular order."""
        for done in self._parts(rows=True):
            assert done.rows is not None
            yield from read_rows(self._exchange, done.rows)
            Path(self._exchange.path(done.rows)).unlink()

    def write_parquet(self, directory: str) -> int:
        """Have workers write every connection once, a Parquet file for each part; return how many connections."""
        return sum(done.connections for done in self._parts(parquet=directory))

    def _parts(self, **asked: Any) -> Iterator[PartDone]:
        settings: dict[str, Any] = {"options": None, "choose": False, "rows": False, **asked}
        end_ns = self.shuffle.clock.now_ns
        jobs = (PartJob(part, _PIECES, end_ns, self._profile, **settings) for part in range(self._exchange.parts))
        return self._crew.run(track_part, ((self._exchange, job) for job in jobs))


@contextmanager
def open_run(
    paths: Sequence[str],
    crew: Crew,
    *,
    directory: str | None = None,
    profile: str = "linux",
    part: dict[str, Any] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    parts: int | None = None,
) -> Iterator[Run]:
    """Read captures into an exchange for as long as this is open.

    Args:
        paths: captures.
        crew: who does the work; closed at the end.
        directory: where workers exchange files, the same for all of them; by default one for temporary files, here.
        profile: whose timers the hosts keep.
        part: what of the captures: arguments of open_capture.
        chunk_bytes: of a capture that one task reads.
        parts: how many parts of the connections there are; eight a worker by default.

    Raises:
        InputError: an input cannot be read.
        ConntrackError: the directory cannot be written to, or workers die again and again.
    """
    if chunk_bytes < 1:
        raise ValueError(f"chunk_bytes must be at least 1, not {chunk_bytes}")
    own = None
    try:
        with crew:
            own = tempfile.mkdtemp(prefix="conntrack-", dir=directory)
            key = np.frombuffer(secrets.token_bytes(32), np.uint64)
            exchange = Exchange(own, parts or PARTS_EACH * crew.workers, key)
            shuffle = Shuffle(exchange, crew, chunk_bytes)
            shuffle.read(tuple(paths), part or {})
            yield Run(exchange, crew, shuffle, profile)
    except OSError as error:
        where = directory or tempfile.gettempdir()
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ConntrackError(f"{where}: no room for more segments; give --spill a directory with more") from error
        if own is None or str(error.filename or "").startswith(own):
            what = (error.strerror or str(error)).lower()
            raise ConntrackError(f"{where}: {what}; give --spill a directory that can be written to") from error
        raise
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
