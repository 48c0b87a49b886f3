"""The 49 files of pcapng-test-generator give the packets that its manifest and tshark say they have, and no damage."""

from __future__ import annotations

import json
from pathlib import Path

from tshark_packets import RECORD, generated

from conntrack.capture import open_capture


def test_packets_and_times(shared: Path) -> None:
    said = json.loads(RECORD.read_text())
    manifest = {entry["file"]: entry for entry in json.loads((shared / "captures" / "MANIFEST.json").read_text())}
    files = generated(shared)
    assert len(files) == len(said) == 49
    for path in files:
        name = str(path.relative_to(shared / "captures"))
        with open_capture([path], batch_segments=1) as capture:
            assert sum(len(batch) for batch in capture) == manifest[name]["tcp_packets"]
        info = capture.info
        assert [info.packets, info.first_ts_ns, info.last_ts_ns] == said[name], name
        assert info.packets == manifest[name]["packets"] == sum(info.skipped.values()) + info.tcp_segments
        assert info.faults == [], name
        if info.packets and name != "hadrielk+pcapng-test-generator/empty.pcap":
            assert set(info.skipped) <= {"udp"}, name


def test_cut_short_gives_one_line(shared: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcapng"
    for path in generated(shared):
        content = path.read_bytes()
        for size in {len(content) - 1, len(content) // 2 | 1}:  # blocks end at multiples of four
            cut.write_bytes(content[:size])
            with open_capture([cut]) as capture:
                assert list(capture) == []
            (fault,) = capture.info.faults
            assert str(fault).startswith(f"{cut}: cut short in ") and "\n" not in str(fault)
            assert fault.offset < size
