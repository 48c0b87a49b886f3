"""From the bytes of a capture in page cache to segments: conntrack.capture and core.decode, no tracking."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from isal import igzip_lib

from benches.traffic import CaptureFile
from conntrack.capture import open_capture
from conntrack.capture.compressed import CHUNK_BYTES, READ_BYTES


def _segments(path: Path) -> int:
    with open_capture([path]) as reader:
        return sum(len(batch) for batch in reader)


def test_decode(benchmark: Any, report: Any, capture: CaptureFile) -> None:
    segments = benchmark(_segments, capture.path)
    report(packets=capture.packets, bytes=capture.bytes, segments=segments)


def test_gzip(benchmark: Any, report: Any, capture: CaptureFile, tmp_path: Path) -> None:
    """Turn by turn with the decompressor alone: with a core for each thread, reading takes hardly longer than that."""
    path = tmp_path / "mixed.pcap.gz"
    with capture.path.open("rb") as plain, gzip.open(path, "wb", 6) as compressed:
        shutil.copyfileobj(plain, compressed)
    alone_s: list[float] = []

    def decompress() -> None:
        begin = perf_counter()
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        with path.open("rb", buffering=0) as file:
            data = b""
            while not member.eof:
                member.decompress(data, CHUNK_BYTES)
                data = file.read(READ_BYTES) if member.needs_input and not member.eof else b""
        alone_s.append(perf_counter() - begin)

    segments = benchmark.pedantic(_segments, args=(path,), setup=decompress, rounds=9, warmup_rounds=1)
    report(packets=capture.packets, bytes=capture.bytes, segments=segments)
    if benchmark.stats is not None:
        taken_s = benchmark.stats.stats.data
        ratios = [alone / taken for alone, taken in zip(alone_s[-len(taken_s) :], taken_s, strict=True)]
        benchmark.extra_info["of_the_decompressor_alone"] = round(median(ratios), 2)
