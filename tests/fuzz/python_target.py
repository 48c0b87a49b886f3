"""What atheris calls: one input into the readers, their Python counted edge by edge. benches/guided.py runs it."""

from __future__ import annotations

import sys
import time

import atheris

with atheris.instrument_imports(include=["conntrack.capture"]):
    from reading import read_memory

    # Imported by open_reader when there is something for them, which would be too late to be counted.
    import conntrack.capture.compressed
    import conntrack.capture.foreign
    import conntrack.capture.pcap
    import conntrack.capture.pcapng
    import conntrack.capture.snoop
    import conntrack.capture.tcpdump_text  # noqa: F401  (imported here so that atheris instruments it)
    from conntrack.capture.batch import Batch

import numpy as np

MOST_SECONDS = 0.2
"""Of a thread, for a kilobyte, ten times what is allowed for being counted."""

batch = Batch(16)


def one_input(data: bytes) -> None:
    """Read one input to its end, whatever it is; read_memory has what must hold."""
    began = time.thread_time()
    read_memory(np.frombuffer(bytearray(data), np.uint8), batch)
    if time.thread_time() - began > MOST_SECONDS:
        raise TimeoutError(f"{time.thread_time() - began:.3f} s for {len(data)} bytes")


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
