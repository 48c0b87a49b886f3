"""One capture in memory, read to its end by the reader that its first bytes call for; and what must hold then."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from conntrack.capture import open_reader
from conntrack.capture.batch import Batch
from conntrack.capture.stream import STANDARD_INPUT, Stream
from conntrack.errors import CaptureError, InputError

__all__ = ["Memory", "read_memory"]


class _Nothing:
    live = False
    raw_bytes = 0

    def readinto(self, room: memoryview) -> int:
        return 0

    def ready(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        pass


class Memory(Stream):
    """A stream of bytes that are all there."""

    def __init__(self, content: npt.NDArray[np.uint8]) -> None:
        super().__init__(STANDARD_INPUT, content, _Nothing())
        self.end = self.read_bytes = len(content)


def read_memory(content: npt.NDArray[np.uint8], batch: Batch) -> str:
    """Read to the end; return what is said of it: "", or one line."""
    batch.rows = 0
    batch.notes.clear()
    batch.begin_file()
    frames, said = batch.frames, ""
    stream = Memory(content)
    try:
        reader = open_reader(stream, batch)
        while reader.walk(batch):
            batch.rows = 0
        reader.finish(batch)
        described = reader.interfaces()
        assert len(described) <= 1024
    except (CaptureError, InputError) as error:
        said = str(error)
        assert said and "\n" not in said
    assert batch.frames - frames <= len(content)
    assert stream.position <= stream.end
    return said
