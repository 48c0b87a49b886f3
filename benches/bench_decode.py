"""From the bytes of a capture in page cache to segments: conntrack.capture and core.decode, no tracking."""

from __future__ import annotations

from typing import Any

from benches.traffic import CaptureFile
from conntrack.capture import open_capture


def test_decode(benchmark: Any, report: Any, capture: CaptureFile) -> None:
    def decode() -> int:
        with open_capture([capture.path]) as reader:
            return sum(len(batch) for batch in reader)

    segments = benchmark(decode)
    report(packets=capture.packets, bytes=capture.bytes, segments=segments)
