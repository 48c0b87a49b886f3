"""Parquet and Arrow IPC (Feather) files, by pyarrow, a batch at a time.

Owns how pyarrow is driven, and nothing of the columns: arrow.py makes them. For Parquet it encodes and compresses one
group of rows in a thread of its own (without the GIL) while the next is turned into columns; never more than these two
are in memory. Arrow's batches leave as they come. Without pyarrow it says what to install.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import Any

import numpy as np

from conntrack.errors import InputError
from conntrack.export.arrow import Addresses, record_batch, schema
from conntrack.export.capsule import stream_capsule
from conntrack.export.columns import COLUMNS, Column, Kind

__all__ = ["ArrowFile", "parquet_options"]

GROUP_ROWS = 131_072
"""Rows of a Parquet row group: about what DuckDB (122,880) and polars read as one piece of work; 40 MB in memory."""
BATCH_ROWS = 16_384
"""Rows turned into columns at a time: they stay in the cache."""
_WORDS = (Kind.WORD, Kind.FLAGS, Kind.ADDRESS)
_REPEATED = ("generation", "server_port", "tag", "path", "tcp_completeness", "schema", "zeek_history")


def parquet_options(columns: Sequence[Column] = COLUMNS) -> dict[str, Any]:
    """Return pyarrow's settings: zstd, and dictionaries only where values repeat: others are built and thrown away."""
    repeated = [column for column in columns if column.kind in _WORDS or column.name in _REPEATED]
    names = [f"{column.name}.list.element" if column.kind is Kind.FLAGS else column.name for column in repeated]
    return {"compression": "zstd", "use_dictionary": names}


class ArrowFile:
    """Writes one file of the format "parquet", "arrow" (IPC file, which is Feather version 2) or "arrows" (IPC stream).

    Raises:
        InputError: pyarrow is not there.
    """

    def __init__(self, name: str, *, columns: Sequence[Column] = COLUMNS, addresses: Addresses = "text") -> None:
        try:
            self._pyarrow: Any = import_module("pyarrow")
        except ImportError:
            raise InputError(f"--format {name}: pyarrow is not installed; pip install 'tcp-conntrack[arrow]'") from None
        self._columns = columns
        self._addresses: Addresses = addresses
        self._sink = _Sink()
        self._waiting: list[Any] = []
        self._rows = 0
        self._thread = ThreadPoolExecutor(1, "pyarrow") if name == "parquet" else None
        self._writing: Future[None] | None = None
        layout = self._import([]).schema
        if name == "parquet":
            parquet = import_module("pyarrow.parquet")
            self._writer = parquet.ParquetWriter(
                self._pyarrow.PythonFile(self._sink, "w"), layout, **parquet_options(columns)
            )
            self._group_rows = GROUP_ROWS
        else:
            options = self._pyarrow.ipc.IpcWriteOptions(unify_dictionaries=True)
            make = self._pyarrow.ipc.new_file if name == "arrow" else self._pyarrow.ipc.new_stream
            self._writer = make(self._pyarrow.PythonFile(self._sink, "w"), layout, options=options)
            self._group_rows = 1

    def header(self) -> bytes:
        """Return what the writer wrote so far."""
        return self._sink.take()

    def rows(self, rows: np.ndarray[Any, Any]) -> bytes:
        """Take in `rows` (the columns' dtype, shape (n,)); return the bytes that are ready, often none."""
        for at in range(0, len(rows), BATCH_ROWS):
            piece = rows[at : at + BATCH_ROWS]
            self._waiting.append(self._import([record_batch(piece, self._columns, self._addresses)]))
            self._rows += len(piece)
            if self._rows >= self._group_rows:
                self._write()
        return self._sink.take()

    def finish(self) -> bytes:
        """Return the rest of the file, its footer included."""
        if self._waiting:
            self._write()
        self._settle()
        if self._thread is not None:
            self._thread.shutdown()
        self._writer.close()
        return self._sink.take()

    def _import(self, arrays: list[Any]) -> Any:
        capsule = stream_capsule(schema(self._columns, self._addresses), iter(arrays))
        return self._pyarrow.RecordBatchReader._import_from_c_capsule(capsule).read_all()

    def _write(self) -> None:
        table = self._pyarrow.concat_tables(self._waiting)
        self._waiting.clear()
        self._rows = 0
        if self._thread is None:
            self._writer.write_table(table)
            return
        self._settle()
        self._writing = self._thread.submit(self._writer.write_table, table)

    def _settle(self) -> None:
        """Wait until the group before is written; what pyarrow raised is raised here."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None


class _Sink:
    """What pyarrow writes to: keeps the bytes until they are taken."""

    closed = False

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        """Return what was written since the last time; another thread may be writing more."""
        taken = []
        while self._parts:
            taken.append(self._parts.popleft())
        return b"".join(taken)
