"""open_capture: which inputs are taken and in what order, what is said of the others, and the account that is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from frames import eth_ipv4_tcp, ethernet, ipv4, pcap_bytes, tcp, write_pcap, write_pcapng

from conntrack.capture import Capture, open_capture
from conntrack.capture.source import WINDOW_SEGMENTS
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.errors import InputError

T0 = 1_700_000_000_000_000_000
FRAME = eth_ipv4_tcp()


def packets(count: int, start_ns: int = T0, sport: int = 1000) -> list[tuple[int, bytes]]:
    return [(start_ns + i * 1_000_000, eth_ipv4_tcp(sport=sport + i)) for i in range(count)]


def ports(capture: Capture) -> list[int]:
    return [port for batch in capture for port in batch["src_port"].tolist()]


def refusal(path: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        open_capture([path])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


class TestWhatIsRefused:
    def test_nothing_there(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "none.pcap") == "no such file; check the name"

    def test_a_directory(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == "is a directory; give -r to read the captures in it, or name them"

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_pcap(tmp_path / "a.pcap", packets(1))

        def deny(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", deny)  # root may read everything
        assert refusal(path) == "permission denied; run as a user who may read it"

    def test_an_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.pcap"
        path.touch()
        assert refusal(path).startswith("empty file (0 bytes); ")

    @pytest.mark.parametrize(
        ("content", "looks"),
        [
            (b"just some words\n", "plain text"),
            ("naïve text, cut in a lett".encode() * 20 + "ü".encode()[:1], "plain text"),
            (b"<!doctype html><html>", "an HTML page"),
            (b"<?xml version='1.0'?><pdml>", "XML"),
            (b'[\n {"_index": 1}]', "JSON"),
            (b"\x7fELF\x02\x01", "binary data that begins with 7f 45 4c 46"),
            (b"\xff", "binary data that begins with ff"),
        ],
    )
    def test_what_is_no_capture(self, tmp_path: Path, content: bytes, looks: str) -> None:
        path = tmp_path / "a.pcap"
        path.write_bytes(content)
        assert refusal(path).startswith(f"not a capture (looks like {looks}); ")

    def test_an_archive(self, tmp_path: Path) -> None:
        path = tmp_path / "a b.zip"
        path.write_bytes(b"PK\x03\x04 and so on")
        assert refusal(path) == f"a zip archive, which this version does not read; use: unzip -p '{path}' | ctrack -"

    def test_nothing_and_standard_input_twice(self) -> None:
        with pytest.raises(InputError, match="no capture given"):
            open_capture([])
        with pytest.raises(InputError, match="given twice"):
            open_capture(["-", "-"])
        with pytest.raises(ValueError, match="batch_segments"):
            open_capture(["-"], batch_segments=0)

    def test_one_of_several(self, tmp_path: Path) -> None:
        good = write_pcap(tmp_path / "a.pcap", packets(1))
        with pytest.raises(InputError, match="no such file"):
            open_capture([good, tmp_path / "none.pcap"])


class TestTheAccount:
    def test_every_packet_is_accounted_for(self, tmp_path: Path) -> None:
        arp, udp, too_short = ethernet(b"", 0x0806), ethernet(ipv4(b"", protocol=17)), ethernet(ipv4(tcp()[:19]))
        frames = [FRAME, arp, udp, FRAME, b"", too_short]
        path = write_pcap(tmp_path / "a.pcap", [(T0 - i * 1000, frame) for i, frame in enumerate(frames)])
        with open_capture([path]) as capture:
            (batch,) = capture
            assert batch.dtype == SEGMENT_DTYPE
            assert batch["frame"].tolist() == [4, 1]  # in order of time
        info = capture.info
        assert (info.files, info.packets, info.tcp_segments) == ([str(path)], 6, 2)
        assert info.skipped == {"arp": 1, "udp": 1, "cut_short_header": 1, "bad_tcp_header": 1}
        assert (info.first_ts_ns, info.last_ts_ns, info.time_inversions) == (T0 - 5000, T0, 5)
        assert (info.bytes, info.bytes_total) == (path.stat().st_size, path.stat().st_size)

    def test_it_is_right_at_each_batch(self, tmp_path: Path) -> None:
        """It is ahead of what was handed out by the window."""
        path = write_pcap(tmp_path / "a.pcap", packets(4 * WINDOW_SEGMENTS))
        n = WINDOW_SEGMENTS
        with open_capture([path], batch_segments=n) as capture:
            assert (capture.info.packets, capture.info.bytes) == (0, 0)
            seen = [(len(batch), capture.info.packets, capture.info.last_ts_ns) for batch in capture]
        assert seen == [(n, k * n, T0 + (k * n - 1) * 1_000_000) for k in (2, 3, 4, 4)]

    def test_the_array_is_used_again(self, tmp_path: Path) -> None:
        path = write_pcap(tmp_path / "a.pcap", packets(3 * WINDOW_SEGMENTS))
        with open_capture([path], batch_segments=WINDOW_SEGMENTS) as capture:
            first, second, _ = list(capture)
        assert np.shares_memory(first, second)

    def test_closed_before_the_end(self, tmp_path: Path) -> None:
        path = write_pcap(tmp_path / "a.pcap", packets(4 * WINDOW_SEGMENTS))
        with open_capture([path], batch_segments=1) as capture:
            next(iter(capture))
        assert list(capture) == []
        assert capture.info.packets == 2 * WINDOW_SEGMENTS

    def test_without_tcp_there_is_no_batch(self, tmp_path: Path) -> None:
        path = write_pcap(tmp_path / "a.pcap", [(T0, ethernet(b"", 0x0806))] * 3)
        with open_capture([path]) as capture:
            assert list(capture) == []
        assert capture.info.skipped == {"arp": 3}


class TestSeveralFiles:
    def test_are_read_by_the_time_of_their_first_packet(self, tmp_path: Path) -> None:
        late = write_pcap(tmp_path / "a.pcap", packets(2, T0 + 10**9, 3000))
        early = write_pcapng(tmp_path / "b.pcapng", [(T0 - 5, ethernet(b"", 0x0806)), *packets(2, T0, 1000)])
        middle = write_pcap(tmp_path / "c.pcap", packets(2, T0 + 10**6, 2000), big_endian=True)
        none = write_pcap(tmp_path / "d.pcap", [])
        with open_capture([late, early, none, middle]) as capture:
            assert ports(capture) == [1000, 1001, 2000, 2001, 3000, 3001]
        assert capture.info.files == [str(none), str(early), str(middle), str(late)]
        assert (capture.info.packets, capture.info.time_inversions) == (7, 0)
        assert capture.info.bytes == capture.info.bytes_total

    def test_frames_are_numbered_over_all(self, tmp_path: Path) -> None:
        paths = [write_pcap(tmp_path / f"{i}.pcap", packets(3, T0 + i * 10**9)) for i in range(3)]
        with open_capture(paths, batch_segments=2) as capture:
            assert [n for batch in capture for n in batch["frame"].tolist()] == list(range(1, 10))

    def test_damage_ends_one_file_only(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{i}.pcap" for i in range(3)]
        for i, path in enumerate(paths):
            path.write_bytes(pcap_bytes(packets(3, T0 + i * 10**9))[:-1])
        paths[1].write_bytes(pcap_bytes([])[:20])
        with open_capture(paths) as capture:
            assert len(ports(capture)) == 4
        assert [fault.path for fault in capture.info.faults] == [str(paths[1]), str(paths[0]), str(paths[2])]
        assert "cut short in packet 3 (53 of 54 bytes" in str(capture.info.faults[2])
        assert all(fault.__traceback__ is None for fault in capture.info.faults)  # it would hold the buffers


class TestPipes:
    def test_a_pipe_is_read_as_it_grows(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        content = pcap_bytes(packets(6))
        came, waited, end = threading.Event(), [], len(content)

        def write() -> None:
            with path.open("wb", buffering=0) as pipe:
                for start, stop in ((0, 3), (3, 30), (30, end - 60), (end - 60, end)):
                    pipe.write(content[start:stop])
                    if stop == end - 60:
                        waited.append(came.wait(10))
                    time.sleep(0.01)

        writer = threading.Thread(target=write)
        writer.start()
        with open_capture([path]) as capture:
            assert capture.info.bytes_total is None
            counted = 0
            for batch in capture:
                counted += len(batch)
                if counted == 5:
                    came.set()  # the rest is written only after the first five were handed out
        writer.join()
        assert (counted, capture.info.bytes, capture.info.faults, waited) == (6, len(content), [], [True])

    @pytest.mark.parametrize(
        "content", [pcap_bytes(packets(50)), pcap_bytes(packets(50))[:-9], b"", b"words", b"\x1f\x8b\x08"]
    )
    def test_standard_input(self, content: bytes) -> None:
        program = (
            "from conntrack.capture import open_capture\n"
            "from conntrack.errors import InputError\n"
            "try:\n"
            "    with open_capture(['-']) as capture:\n"
            "        n = sum(len(batch) for batch in capture)\n"
            "    print(n, *capture.info.faults)\n"
            "except InputError as error:\n"
            "    print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], input=content, capture_output=True, check=True)
        said = {
            3450 + 74: "50\n",
            3450 + 74 - 9: "49 -: cut short in packet 50 (45 of 54 bytes, offset 3454); 49 packets used\n",
            0: "-: empty (0 bytes); did the program that writes it fail?\n",
            5: "-: not a capture (looks like plain text); give a pcap or pcapng file\n",
            3: "0 -: cut short in the gzip data, offset 3 of the compressed file; what came before was used\n",
        }
        assert done.stdout.decode() == said[len(content)]

    def test_a_pipe_that_is_cut_short(self, tmp_path: Path) -> None:
        content = pcap_bytes(packets(3))[:-1]
        done = subprocess.Popen([sys.executable, "-c", f"import sys; sys.stdout.buffer.write({content!r})"], stdout=-1)
        assert done.stdout is not None
        with done, open_capture([f"/dev/fd/{done.stdout.fileno()}"]) as capture:
            assert len(ports(capture)) == 2
        assert len(capture.info.faults) == 1


class TestTheSharedCaptures:
    def test_all_are_read(self, shared: Path) -> None:
        root = shared / "captures"
        files = [path for path in root.rglob("*") if path.is_file() and path.parent != root]
        assert len(files) == 256
        for path in files:
            with open_capture([path], batch_segments=100) as capture:
                rows = sum(len(batch) for batch in capture)
            info = capture.info
            assert info.tcp_segments == rows
            assert info.packets == rows + sum(info.skipped.values())
            assert len(info.faults) <= 1
