"""What tcpdump prints of a capture gives the segments that the capture itself gives, in every form that it prints."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conntrack.capture import CaptureInfo, open_capture

FORMS = (
    "",
    "-S",
    "-v",
    "-vv",
    "-vv -S",
    "-t",
    "-tt",
    "-ttt",
    "-tttt",
    "-ttttt",
    "-e",
    "-ev -tt",
    "-x",
    "-A -tt",
    "-v -S -tt",
)

NUMBER_NOT_PRINTED = "begins in the middle: the first number is not printed"
FEW_LINES = "-ttt and -ttttt of five lines look alike"
LONG_PAUSE = "a pause of more than a day: -ttt prints hours only, to 24"
CUT = "the capture is cut short within a header, of which tcpdump prints no end"
TIME_GOES_BACK = "times of the capture go back, so that -ttt and -ttttt cannot be told apart"
NOT_THE_NEXT = "a segment without payload whose number, which is not printed, is not the sender's next"
BAD_TIME = "a time of the capture has more than a second of microseconds"
OTHER_LENGTH = "of this link type tcpdump -e prints the length of what is inside of the frame"
DIFFERENT = {
    ("enip_cip_example.pcap", "seq"): NUMBER_NOT_PRINTED,
    ("enip_cip_example.pcap", "ack"): NUMBER_NOT_PRINTED,
    ("enip_cip_example.pcap", "ts_ns"): LONG_PAUSE,
    ("input.pcap", "ts_ns"): FEW_LINES,
    ("timestamp_invalid_micro.pcap", "ts_ns"): BAD_TIME,
    ("tls_DER-incomplete-header.pcap", "ts_ns"): TIME_GOES_BACK,
    ("sample.pcap", "seq"): NUMBER_NOT_PRINTED,
    ("sample.pcap", "ack"): NUMBER_NOT_PRINTED,
    ("mptcp-aa-echo.pcap", "seq"): NOT_THE_NEXT,
    ("tcp-auth-heapoverflow.pcap", "rows"): CUT,
    ("bgp-aigp.pcap", "wire_bytes"): OTHER_LENGTH,
    ("arcnet-rfc1051-arp-icmp-http.pcap", "wire_bytes"): OTHER_LENGTH,
}
"""(capture, field) that differs in at least one form -> why."""

TUNNELS = ("mpls", "pppoe", "ipv4", "ipv6")
ALWAYS = [
    *("src_ip", "dst_ip", "src_port", "dst_port", "flags", "seq", "ack", "window", "payload_bytes"),
    *("mss", "window_scale", "tsval", "tsecr", "options", "ip_version"),
]


def read(path: Path) -> tuple[np.ndarray, CaptureInfo]:
    with open_capture([path]) as capture:
        batches = [batch.copy() for batch in capture]
    segments = np.concatenate(batches) if batches else np.zeros(0)
    return (segments[np.argsort(segments["frame"])] if batches else segments), capture.info  # as they lie in the file


def printed(path: Path, form: str, out: Path) -> np.ndarray | None:
    done = subprocess.run(
        ["tcpdump", "-nn", "-r", path, *form.split()],
        capture_output=True,
        env={**os.environ, "TZ": "UTC"},
        check=False,
    )
    out.write_bytes(done.stdout)
    first = done.stdout.partition(b"\n")[0]
    return read(out)[0] if b" IP" in first or first.startswith(b"IP") else None


def times(segments: np.ndarray, form: str) -> np.ndarray:
    """As far as the form prints them: to the microsecond, without the day, or since the first segment."""
    ts_ns = segments["ts_ns"] // 1000 * 1000
    if "-tttt" in form.split() or "-tt" in form:
        return ts_ns - ts_ns[0] if form in ("-ttt", "-ttttt") else ts_ns
    return ts_ns * 0 if form == "-t" else ts_ns % (86_400 * 10**9)


def differences(ours: np.ndarray, theirs: np.ndarray, form: str) -> set[str]:
    if len(ours) != len(theirs):
        return {"rows"}
    fields = list(ALWAYS)
    if "v" in form:
        fields += ["ttl"]
    if "e" in form:
        fields += ["wire_bytes"]
    found = {field for field in fields if (ours[field] != theirs[field]).any()}
    if "v" in form and (ours["ip_id"] != theirs["ip_id"])[ours["ip_version"] == 4].any():
        found.add("ip_id")
    if (times(ours, form) != times(theirs, form)).any():
        found.add("ts_ns")
    return found


@pytest.fixture(scope="module")
def captures(shared: Path) -> list[Path]:
    """Some of every collection: those of which tcpdump prints at least one segment."""
    files = sorted(path for path in (shared / "captures").rglob("*.pcap*") if path.suffix != ".gz")
    return files[::5] + files[2::10]


def test_the_same_segments(captures: list[Path], tmp_path: Path) -> None:
    compared, segments, different = set(), 0, set()
    for path in captures:
        ours, info = read(path)
        ways = {info.paths[number] for number in np.unique(ours["path"]).tolist()} if len(ours) else set()
        if any(layer in way for way in ways for layer in TUNNELS):  # tcpdump prints them in forms of their own
            continue
        if "ip_fragment" in info.skipped:  # it prints each fragment by itself
            continue
        if not len(ours) or len(ours) > 3000:
            continue
        for form in FORMS:
            theirs = printed(path, form, tmp_path / "printed.txt")
            if theirs is None:  # a link type that this tcpdump does not print, or in a form of its own
                continue
            found = {(path.name, field) for field in differences(ours, theirs, form)}
            assert found <= set(DIFFERENT), (path, form, found)
            different |= found
            compared.add(path)
            segments += len(ours)
    assert different == set(DIFFERENT)
    assert len(compared) >= 30
    assert segments > 20_000


def test_the_session_of_the_shared_captures(shared: Path) -> None:
    segments, info = read(shared / "captures" / "ssh-session.tcpdump.txt")
    assert len(segments) == info.packets == 45
    assert segments["seq"][:2].tolist() == [211844352, 3413662952]
    assert segments["ack"][1:4].tolist() == [211844353, 3413662953, 3413662953]
    assert set(segments["src_port"].tolist()) == {22, 49972}
    assert info.first_ts_ns == (10 * 3600 + 51 * 60 + 18) * 10**9 + 741_495_000
    date, name = info.notes
    assert date.endswith("no date is printed; the day is taken for 1970-01-01")
    assert name.endswith("host names were printed; 101d04006.cloud.d04.am12 is shown as 240.0.0.1")
