"""One run: captures read by many workers, parts tracked by them, findings put together, rows handed out.

Owns the directory by which workers exchange, which is there for the run and gone after it (but for checkpoint.py, where
the run may go on later), and the order of the stages.
Nothing is decided by who does what, or when: the result is that of one thread.
"""

from __future__ import annotations

import errno
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from conntrack.capture import CaptureInfo
from conntrack.cluster.checkpoint import open_checkpoint
from conntrack.cluster.crew import Crew
from conntrack.cluster.exchange import Exchange, read_rows, write_whole
from conntrack.cluster.shuffle import Shuffle
from conntrack.cluster.tasks import PartDone, PartJob, join_findings, joined_findings, rows_name, track_part
from conntrack.detect import DetectOptions
from conntrack.errors import ConntrackError
from conntrack.pipeline import Analysis

__all__ = ["CHUNK_BYTES", "Run", "Watch", "open_run"]

Rows = np.ndarray[Any, Any]

CHUNK_BYTES = 64 << 20
"""Of a capture that one task reads: half a second of work, and a hundred times what it costs to hand it out."""
PARTS_EACH = 8
"""Parts a worker, at least: so that a large one does not keep all others waiting."""
PARTS_KEPT = 256
"""Parts of a run with a checkpoint: what is done once may be small, and memory follows one part a worker."""
JOINED = 8
"""Findings put together by one task, and by who hands the tasks out at the end."""
_PIECES = "pieces"


class Watch(Protocol):
    """Is told how far a run has come."""

    def read(self, done_bytes: int, total_bytes: int | None, packets: int) -> None:
        """So many bytes of the captures were read."""

    def followed(self, parts: int, of: int) -> None:
        """The connections of so many parts were followed."""


class _Nobody:
    def read(self, done_bytes: int, total_bytes: int | None, packets: int) -> None:
        pass

    def followed(self, parts: int, of: int) -> None:
        pass


class Run:
    """Captures that were read into an exchange.

    Attributes:
        info: the account of the captures.
        shuffle: what was exchanged.
    """

    def __init__(
        self, exchange: Exchange, crew: Crew, shuffle: Shuffle, profile: str, watch: Watch, *, tag_in_key: bool = False
    ) -> None:
        self.shuffle = shuffle
        self._exchange = exchange
        self._crew = crew
        self._profile = profile
        self._tag_in_key = tag_in_key
        self._watch = watch
        self._checkpoint = shuffle.checkpoint
        write_whole(exchange.path(_PIECES), pickle.dumps(shuffle.at.pieces))

    @property
    def info(self) -> CaptureInfo:
        return self.shuffle.info

    def analysis(self, options: DetectOptions | None = None, *, choose: bool = False) -> Analysis:
        """Return what the detectors say of all connections.

        Args:
            options: thresholds.
            choose: keep the connections that are worth showing.
        """
        if self._checkpoint is not None:  # which has connections, and no detector's state
            fed = Analysis(options, choose=choose)
            for rows in self.flows():
                fed.feed(rows)
            return fed
        level = [done.findings for done in self._parts(options=options or DetectOptions(), choose=choose)]
        names = [name for name in level if name is not None]
        joined = 0
        while len(names) > min(self._crew.workers, JOINED):
            each = min(JOINED, max(2, -(-len(names) // self._crew.workers)))
            groups = [names[at : at + each] for at in range(0, len(names), each)]
            jobs = [(self._exchange, group, f"joined-{joined + i:05}") for i, group in enumerate(groups)]
            joined += len(jobs)
            names = list(self._crew.run(join_findings, jobs))
        return joined_findings(self._exchange, names)

    def flows(self) -> Iterator[Rows]:
        """Yield every connection once, in batches of FLOW_DTYPE, in no particular order.

        Raises:
            ConntrackError: a file by which segments or connections were exchanged is damaged.
        """
        kept = self._checkpoint
        for part in range(kept.parts_done if kept is not None else 0):
            yield from read_rows(self._exchange.path(rows_name(part)))
        for done in self._parts(rows=True):
            assert done.rows is not None
            path = self._exchange.path(done.rows)
            if kept is not None:
                kept.parts_done += 1
                kept.save()
            yield from read_rows(path)
            if kept is None:
                Path(path).unlink()

    def write_parquet(self, directory: str) -> int:
        """Have workers write every connection once, a Parquet file for each part; return how many connections."""
        return sum(done.connections for done in self._parts(parquet=directory))

    def _parts(self, **asked: Any) -> Iterator[PartDone]:
        settings: dict[str, Any] = {"options": None, "choose": False, "rows": False, **asked}
        end_ns = self.shuffle.clock.now_ns
        parts = range(self._checkpoint.parts_done if self._checkpoint is not None else 0, self._exchange.parts)
        jobs = (PartJob(part, _PIECES, end_ns, self._profile, self._tag_in_key, **settings) for part in parts)
        self._watch.followed(parts.start, parts.stop)
        for part, done in zip(parts, self._crew.run(track_part, ((self._exchange, job) for job in jobs)), strict=True):
            self._watch.followed(part + 1, parts.stop)
            yield done


@contextmanager
def open_run(
    paths: Sequence[str],
    crew: Crew,
    *,
    directory: str | None = None,
    profile: str = "linux",
    tag_in_key: bool = False,
    part: dict[str, Any] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    parts: int | None = None,
    checkpoint: str | None = None,
    watch: Watch | None = None,
) -> Iterator[Run]:
    """Read captures into an exchange for as long as this is open.

    Args:
        paths: captures.
        crew: who does the work; closed at the end.
        directory: where workers exchange files, the same for all of them; by default one for temporary files, here.
        profile: whose timers the hosts keep.
        tag_in_key: as for Tracker.
        part: what of the captures: arguments of open_capture.
        chunk_bytes: of a capture that one task reads.
        parts: how many parts of the connections there are; eight a worker by default, 256 with a checkpoint.
        checkpoint: a file; where it is there the run goes on from it. Files are exchanged beside it.
        watch: is told how far the work has come.

    Raises:
        InputError: an input cannot be read.
        ConntrackError: the directory cannot be written to, workers die again and again, or the checkpoint is damaged or
            of another run.
    """
    if chunk_bytes < 1:
        raise ValueError(f"chunk_bytes must be at least 1, not {chunk_bytes}")
    part, watch = part or {}, watch or _Nobody()
    own = None
    try:
        with crew, ExitStack() as stack:
            key = np.frombuffer(secrets.token_bytes(32), np.uint64)
            kept = None
            if checkpoint is not None:
                own = f"{checkpoint}.parts"
                asked = {name: value for name, value in part.items() if value not in (None, False, "native")}
                settings = {"profile": profile, **asked, **({"tag_in_key": True} if tag_in_key else {})}
                begin = open_checkpoint(checkpoint, settings, key, parts or PARTS_KEPT, chunk_bytes)
                kept = stack.enter_context(begin)
                exchange, chunk_bytes = kept.exchange, kept.chunk_bytes
            else:
                own = tempfile.mkdtemp(prefix="conntrack-", dir=directory)
                exchange = Exchange(own, parts or PARTS_EACH * crew.workers, key)
            shuffle = Shuffle(exchange, crew, chunk_bytes, kept, watch.read)
            shuffle.read(tuple(paths), part)
            yield Run(exchange, crew, shuffle, profile, watch, tag_in_key=tag_in_key)
    except OSError as error:
        where = directory or (os.path.dirname(own or "") or "." if checkpoint else tempfile.gettempdir())
        option = "--checkpoint" if checkpoint is not None else "--spill"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ConntrackError(f"{where}: no room for more segments; give {option} a directory with more") from error
        if own is None or str(error.filename or "").startswith(checkpoint or own):
            what = (error.strerror or str(error)).lower()
            raise ConntrackError(f"{where}: {what}; give {option} a directory that can be written to") from error
        raise
    finally:
        if own is not None and checkpoint is None:
            shutil.rmtree(own, ignore_errors=True)
