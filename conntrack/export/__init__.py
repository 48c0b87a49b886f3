"""Connections, or sockets, as rows: one exporter for each format, all made from the tables in columns.py.

An exporter turns batches of FLOW_DTYPE, or SOCKET_DTYPE, into bytes and keeps nothing of them; who writes the bytes
where is not its business. The names and suffixes are here without numpy, so that the command line can offer them before
it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from conntrack.export.arrow import Addresses

__all__ = ["BINARY", "FLOW_FORMATS", "FLOW_SUFFIXES", "FORMATS", "SUFFIXES", "Exporter", "make_exporter"]

FORMATS = ("table", "tsv", "csv", "ndjson")
"""Formats of all rows."""
SUFFIXES = {".tsv": "tsv", ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".txt": "table"}
"""Suffix of an output file to its format."""
BINARY = ("parquet", "arrow", "arrows")
"""Formats that no terminal shows."""
FLOW_FORMATS = (*FORMATS, *BINARY, "zeek")
"""Formats of connections."""
FLOW_SUFFIXES = {
    **SUFFIXES,
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".arrows": "arrows",
    ".log": "zeek",
}


class Exporter(Protocol):
    """What every format gives."""

    def header(self) -> bytes:
        """Return what comes before the first row; empty where the format has no header."""

    def rows(self, flows: np.ndarray[Any, Any]) -> bytes:
        """Return the rows of `flows` (of the dtype it is for, shape (n,)), in their order."""

    def finish(self) -> bytes:
        """Return what comes after the last row; empty where the format has no end of its own."""


def make_exporter(
    name: str,
    *,
    of: str = "flows",
    epoch: bool = False,
    width: int = 80,
    addresses: Addresses = "text",
    paths: Sequence[str] | None = None,
) -> Exporter:
    """Return the exporter of the format `name`, one of FORMATS, or of FLOW_FORMATS for connections.

    Args:
        name: the format.
        of: "flows" (FLOW_DTYPE), "sockets" (SOCKET_DTYPE) or "host" (HOST_SOCKET_DTYPE).
        epoch: times in unix seconds instead of RFC 3339.
        width: columns of the terminal, for "table" alone.
        addresses: "text", or "binary" for the 16 bytes; for the binary formats alone.
        paths: words for FLOW_DTYPE.path, CaptureInfo.paths of what is read; numbers if there are none.

    Raises:
        InputError: the format needs a library that is not there.
        ValueError: no such format, or no such rows.
    """
    from conntrack.export.columns import HOST_SOCKET_COLUMNS, SOCKET_COLUMNS, flow_columns

    schemas = {"flows": flow_columns(paths), "sockets": SOCKET_COLUMNS, "host": HOST_SOCKET_COLUMNS}
    if of not in schemas:
        raise ValueError(f"no rows of '{of}'")
    columns = schemas[of]
    match name:
        case "tsv" | "csv" | "ndjson":
            from conntrack.export.lines import RowLines

            return RowLines(name, columns=columns, epoch=epoch)
        case "table":
            from conntrack.export.table import Table

            return Table(width=width, epoch=epoch, of=of, paths=paths)
        case "parquet" | "arrow" | "arrows":
            from conntrack.export.parquet import ArrowFile

            return ArrowFile(name, columns=columns, addresses=addresses)
        case "zeek" if of == "flows":
            from conntrack.export.zeek import ConnLog

            return ConnLog()
    raise ValueError(f"no format '{name}'; there are {', '.join(FLOW_FORMATS)}")
