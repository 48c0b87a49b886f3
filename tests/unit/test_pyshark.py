"""pyshark as a source, on captures made here: the same segments, and one line for whatever goes wrong."""

from __future__ import annotations

import asyncio
import gc
import struct
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frames import (
    ACK,
    SYN,
    eth_ipv4_tcp,
    eth_ipv6_tcp,
    ethernet,
    ipv4,
    mss,
    pcap_bytes,
    sack,
    sack_permitted,
    timestamps,
    window_scale,
    write_pcap,
)

import conntrack
from conntrack.capture import CaptureInfo, open_capture
from conntrack.capture.pyshark import _file_capture
from conntrack.errors import CaptureError, ConntrackError, InputError

UDP = ethernet(ipv4(struct.pack(">HHHH", 1, 2, 8, 0), protocol=17))
OFFERED = mss(1460) + sack_permitted() + window_scale(7) + timestamps(7, 0)
SACK = b"\x01\x01" + sack((1, 2))
PACKETS = [
    (1_700_000_000_123_456_789, eth_ipv4_tcp(flags=SYN, options=OFFERED)),
    (1_700_000_000_200_000_000, eth_ipv6_tcp(flags=SYN | ACK, options=mss(1440), vlans=[(0x8100, 5)])),
    (1_700_000_000_300_000_000, UDP),
    (1_700_000_000_400_000_000, eth_ipv4_tcp(flags=ACK, options=SACK, payload=b"x" * 900, ttl=3, ip_id=77)),
    (1_700_000_000_350_000_000, eth_ipv4_tcp(flags=ACK, seq=2**32 - 1, ack=5, window=0)),
]


def read(path: Path, **how: Any) -> tuple[np.ndarray, CaptureInfo]:
    with open_capture([path], **how) as capture:
        batches = [batch.copy() for batch in capture]
    assert capture.info.packets == capture.info.tcp_segments + sum(capture.info.skipped.values())
    return (np.concatenate(batches) if batches else np.zeros(0)), capture.info


def assert_same(left: np.ndarray, right: np.ndarray) -> None:
    # All but which network it was, which tshark is not asked for.
    for field in set(left.dtype.names or ()) - {"tag", "path"}:
        assert (left[field] == right[field]).all(), field


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_pcap(tmp_path / "a.pcap", PACKETS, nano=True)


def test_the_same_segments(path: Path) -> None:
    ours, info = read(path)
    theirs, said = read(path, reader="pyshark", batch_segments=2)
    assert len(ours) == 4
    assert_same(ours, theirs)
    for name in ("packets", "tcp_segments", "bytes", "bytes_total", "skipped", "first_ts_ns", "last_ts_ns"):
        assert getattr(info, name) == getattr(said, name)
    (described,) = said.described
    assert (described.format, described.packets) == ("dissected by tshark", 5)


def test_several_in_order_of_time_and_a_part_of_them(path: Path, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    later = write_pcap(tmp_path / "later.pcap", [(ts_ns + 10**9, frame) for ts_ns, frame in PACKETS], nano=True)
    (tmp_path / "words.txt").write_text("words\n" * 20)
    with open_capture([tmp_path], recursive=True, reader="pyshark", to_ns=PACKETS[0][0] + 10**9) as capture:
        segments = np.concatenate([batch.copy() for batch in capture])
    assert capture.info.files == [str(path), str(later)]
    assert segments["frame"].tolist() == [1, 2, 5, 4, 6]
    (note,) = capture.info.notes
    assert "1 file was left out: words.txt (tshark cannot read it: The file" in note
    started = set(threading.enumerate()) - before
    for thread in started:  # that which waits for tshark may need a moment to end
        thread.join(20)
    assert not any(thread.is_alive() for thread in started)


def test_display_filter(path: Path) -> None:
    segments, info = read(path, reader="pyshark", display_filter="ip.ttl == 3")
    assert segments["frame"].tolist() == [4]
    assert info.skipped == {"filtered": 3}


def test_a_cut_capture_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap_bytes(PACKETS)[:-5])
    segments, info = read(path, reader="pyshark")
    assert len(segments) == 3
    (fault,) = info.faults
    assert str(fault).startswith(f'{path}: tshark ended early: The file "{path}" appears to have been cut short')


@pytest.mark.parametrize(
    ("name", "content", "how", "said"),
    [
        ("a.txt", b"words\n" * 20, {}, "tshark cannot read it: The file .* isn't a capture file"),
        ("a.pcap", pcap_bytes(PACKETS), {"display_filter": "foo bar"}, 'tshark cannot read it: "bar" was unexpected'),
        ("a.pcap", pcap_bytes(PACKETS), {"filter": "tcp"}, "--filter is not for --reader pyshark"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes, how: dict[str, str], said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_capture([tmp_path / name], reader="pyshark", **how)


def test_what_it_is_not_for(path: Path) -> None:
    with pytest.raises(InputError, match="-: --reader pyshark reads files, not a pipe"):
        open_capture(["-"], reader="pyshark")
    with pytest.raises(InputError, match="--follow is not for --reader pyshark"):
        open_capture([path], reader="pyshark", follow=True)
    with pytest.raises(InputError, match="--display-filter is Wireshark's; it needs --reader pyshark"):
        open_capture([path], display_filter="tcp")


def test_tshark_is_missing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="tshark is not installed; install the package tshark"):
        open_capture([path], reader="pyshark")


def test_pyshark_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyshark", None)
    with pytest.raises(InputError, match="pyshark is not installed; pip install pyshark"):
        open_capture([path], reader="pyshark")


def test_a_python_too_new(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    with pytest.raises(InputError, match=r"pyshark does not run on Python 3\.14"):
        open_capture([path], reader="pyshark")


def test_inside_a_running_event_loop(path: Path) -> None:
    async def inside() -> int:
        return len(read(path, reader="pyshark")[0])

    assert asyncio.run(inside()) == 4


def test_left_early(tmp_path: Path) -> None:
    many = write_pcap(tmp_path / "many.pcap", PACKETS * 400, nano=True)
    with open_capture([many], reader="pyshark", batch_segments=1) as capture:
        assert len(next(iter(capture))) == 1


def test_left_early_with_its_pipe_full(path: Path) -> None:
    """What tshark had written is read, and the pipe with it closed: else a later ResourceWarning says so."""
    loop = asyncio.new_event_loop()
    capture = _file_capture()(str(path), eventloop=loop)

    async def left() -> None:
        process = await asyncio.create_subprocess_exec("yes", stdout=asyncio.subprocess.PIPE)
        while not process.stdout._paused:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        await capture._cleanup_subprocess(process)

    loop.run_until_complete(left())
    loop.close()
    gc.collect()


class TestFromPyshark:
    def capture(self, path: Path, **how: Any) -> Any:
        import pyshark

        return pyshark.FileCapture(str(path), **how)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
    @pytest.mark.parametrize("how", [{}, {"use_json": True, "keep_packets": False}], ids=["xml", "json"])
    def test_the_same_segments(self, path: Path, how: dict[str, Any]) -> None:
        ours, _ = read(path)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            capture = self.capture(path, **how)
            segments = np.concatenate([batch.copy() for batch in conntrack.from_pyshark(capture, batch_segments=3)])
            capture.close()
        loop.close()
        asyncio.set_event_loop(None)
        assert_same(np.sort(segments, order="frame"), np.sort(ours, order="frame"))
        assert len(read(path, reader="pyshark")[0]) == 4  # what pyshark left behind does not disturb

    def test_what_goes_wrong(self) -> None:
        class TSharkCrashException(Exception):
            pass

        class Crashing:
            input_filepath = "x.pcap"

            def __init__(self, error: Exception) -> None:
                self.error = error

            def __iter__(self) -> Any:
                raise self.error

        crash = TSharkCrashException(
            "TShark (pid 1) seems to have crashed (retcode: 2).\nLast error line: tshark: oh\n"
        )
        with pytest.raises(CaptureError, match=r"x\.pcap: tshark ended early: oh; what came before is used"):
            list(conntrack.from_pyshark(Crashing(crash)))
        with pytest.raises(ConntrackError, match="cannot be iterated inside of a running event loop; open the file"):
            list(conntrack.from_pyshark(Crashing(RuntimeError("This event loop is already running"))))
        with pytest.raises(RuntimeError, match="other"):
            list(conntrack.from_pyshark(Crashing(RuntimeError("other"))))
