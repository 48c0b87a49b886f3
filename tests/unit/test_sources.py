"""Inputs that are not plain files: compressed, converted by editcap, directories, captures that are still written."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from frames import eth_ipv4_tcp, pcap_bytes, write_pcap, write_pcapng

from conntrack.capture import compressed, follow, foreign, open_capture, open_reader
from conntrack.capture.batch import Batch
from conntrack.capture.stream import Bytes, Stream
from conntrack.errors import InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

import lz4.frame

T0 = 1_700_000_000_000_000_000
LZ4: Any = lz4.frame
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "Zstandard": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
    "LZ4": LZ4.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
by_codec = pytest.mark.parametrize("name", COMPRESS)


def content(count: int = 3, port: int = 1, start_ms: int = 0) -> bytes:
    return pcap_bytes(
        [(T0 + (start_ms + n) * 10**6, eth_ipv4_tcp(sport=port, payload=os.urandom(50))) for n in range(count)]
    )


def read(*paths: Path | str, **options: Any) -> tuple[list[int], Any]:
    with open_capture(paths, **options) as capture:
        ports = [port for batch in capture for port in batch["src_port"].tolist()]
    return ports, capture.info


class TestCompressed:
    @by_codec
    def test_is_read_whatever_its_name(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "a.pcap"
        path.write_bytes(COMPRESS[name](content(20_000)))
        ports, info = read(path)
        assert (len(ports), info.faults) == (20_000, [])
        assert info.bytes == info.bytes_total == path.stat().st_size

    @by_codec
    def test_members_padding_and_an_empty_one(self, tmp_path: Path, name: str) -> None:
        whole, press = content(3000), COMPRESS[name]
        path = tmp_path / "a.pcap"
        path.write_bytes(press(whole[:1000]) + press(b"") + press(whole[1000:]) + bytes(1000))
        ports, info = read(path)
        assert (len(ports), info.faults) == (3000, [])

    @by_codec
    def test_cut_short_keeps_what_came_before(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "a.pcap"
        data = COMPRESS[name](content(20_000))
        path.write_bytes(data[: len(data) * 2 // 3])
        ports, info = read(path)
        assert 4_000 < len(ports) < 18_000
        (fault,) = info.faults
        at = path.stat().st_size
        assert str(fault) == (
            f"{path}: cut short in the {name} data, offset {at} of the compressed file; what came before was used"
        )

    @by_codec
    def test_trailing_garbage_is_told(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "a.pcap"
        data = COMPRESS[name](content(10))
        path.write_bytes(data + b"garbage, no less")
        ports, info = read(path)
        assert len(ports) == 10
        (fault,) = info.faults
        assert f"what follows the {name} data is not {name}, offset {len(data)} of the compressed file" in str(fault)

    @by_codec
    def test_damage_in_the_middle(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "a.pcap"
        data = bytearray(COMPRESS[name](content(20_000)))
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(byte ^ 0x5A for byte in data[middle : middle + 64])
        path.write_bytes(data)
        _, info = read(path)
        assert info.packets == info.tcp_segments + sum(info.skipped.values())
        assert len(info.faults) == 1
        assert "\n" not in str(info.faults[0])

    @by_codec
    def test_a_missing_library_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        def missing(module: str) -> None:
            raise ImportError(module)

        monkeypatch.setattr(compressed, "import_module", missing)
        path = tmp_path / "a.pcap"
        path.write_bytes(COMPRESS[name](content()))
        with pytest.raises(InputError, match=f"{name} data; install .* to read it"):
            read(path)

    def test_what_is_inside_is_no_capture(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(b"just words\n" * 100))
        with pytest.raises(InputError, match="not a capture"):
            read(path)
        path.write_bytes(gzip.compress(gzip.compress(content())))
        with pytest.raises(InputError, match="not a capture"):
            read(path)

    def test_a_bomb_takes_no_memory(self, tmp_path: Path) -> None:
        """A record of 200 kB of zeros, five thousand times: a gigabyte."""
        path = tmp_path / "bomb.gz"
        one = pcap_bytes([(T0, bytes(200_000))], snaplen=262_144)
        block = one[24:] * 50
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(one[:24])
            for _ in range(100):
                file.write(block)
        program = (
            "import resource, sys\n"
            "from conntrack.capture import open_capture\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "with open_capture(sys.argv[1:]) as capture:\n"
            "    list(capture)\n"
            "print(capture.info.packets, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, check=True)
        packets, grown_kb = map(int, done.stdout.split())
        assert packets == 5000
        assert grown_kb < 60_000

    def test_in_a_pipe_as_it_grows(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        first, second = gzip.compress(content(5)), gzip.compress(content(5)[24:])
        came = threading.Event()
        waited = []

        def write() -> None:
            with path.open("wb", buffering=0) as pipe:
                pipe.write(first)
                waited.append(came.wait(10))
                pipe.write(second)

        writer = threading.Thread(target=write)
        writer.start()
        counted = 0
        with open_capture([path]) as capture:
            for batch in capture:
                counted += len(batch)
                came.set()
        writer.join()
        assert (counted, waited, capture.info.faults) == (10, [True], [])

    def test_closed_before_the_end_leaves_no_thread(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(content(100_000), 1))
        before = threading.active_count()
        with open_capture([path]) as capture:
            next(iter(capture))
        assert threading.active_count() == before


class TestConverted:
    def made(self, tmp_path: Path, kind: str) -> Path:
        plain = write_pcapng(tmp_path / "a.pcapng", [(T0 + n * 1000, eth_ipv4_tcp(sport=n)) for n in range(50)])
        path = tmp_path / f"a.{kind}"
        subprocess.run(["editcap", "-F", kind, str(plain), str(path)], check=True, capture_output=True)
        return path

    @pytest.mark.parametrize("kind", ["netmon1", "netmon2", "ngsniffer", "5views", "visual"])
    def test_what_wireshark_reads_is_read(self, tmp_path: Path, kind: str) -> None:
        path = self.made(tmp_path, kind)
        ports, info = read(path)
        assert ports == list(range(50))
        (note,) = info.notes
        assert note.startswith(f"{path}: ") and note.endswith("; read through editcap")
        assert (info.faults, info.bytes) == ([], info.bytes_total)

    def test_without_editcap_the_package_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.made(tmp_path, "netmon2")
        monkeypatch.setattr(foreign, "find_editcap", lambda: None)
        with pytest.raises(InputError, match=r"a Network Monitor 2 capture, .* install the package wireshark-common"):
            read(path)

    def test_what_editcap_cannot_read_either(self, tmp_path: Path) -> None:
        path = tmp_path / "a.cap"
        path.write_bytes(b"GMBU" + bytes(range(200)))
        with pytest.raises(InputError) as caught:
            read(path)
        assert "which editcap cannot read either" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_cut_short_keeps_what_came_before(self, tmp_path: Path) -> None:
        path = self.made(tmp_path, "5views")
        path.write_bytes(path.read_bytes()[:-30])
        ports, _ = read(path)  # editcap takes a missing end of this format for the end
        assert ports == list(range(49))

    def test_it_is_never_run_on_what_is_no_capture(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_: object) -> None:
            raise AssertionError("editcap was run")

        monkeypatch.setattr(foreign.Converted, "__init__", never)
        for data in (b"words\n", b"<html>", b"PK\x03\x04zip", b"\x7fELF\x02", b"\x89PNG\r\n", b"%PDF-1.7 \xff"):
            path = tmp_path / "a.pcap"
            path.write_bytes(data)
            with pytest.raises(InputError):
                read(path)

    def test_a_file_that_is_being_written_anew_is_empty(self, tmp_path: Path) -> None:
        """Its bytes come a moment after it was found to have none: none of them is given to another program."""

        class Anew:
            live, raw_bytes, reads = False, 0, 0

            def readinto(self, room: memoryview) -> int:
                self.reads += 1
                if self.reads > 1:
                    room[: len(data)] = data
                return len(data) if self.reads > 1 else 0

        path = write_pcap(tmp_path / "a.pcap", [(1, eth_ipv4_tcp())])
        data = path.read_bytes()
        with pytest.raises(InputError, match=r"a\.pcap: empty \(0 bytes\)"):
            open_reader(Stream(str(path), source=cast("Bytes", Anew())), Batch(1))

    def test_a_pipe_is_not_converted(self) -> None:
        program = "from conntrack.capture import open_capture\nlist(open_capture(['-']))"
        done = subprocess.run([sys.executable, "-c", program], input=b"GMBU" + bytes(600), capture_output=True)
        assert b"converted from a file only; write it to a file first" in done.stderr

    def test_editcap_is_looked_for_in_the_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert foreign.find_editcap() is None


class TestPatterns:
    """Where no shell puts the names in: in quotes, from Python, on Windows."""

    def test_the_files_that_match_are_read(self, tmp_path: Path) -> None:
        for number in (3, 1, 2):
            (tmp_path / f"ring_{number}.pcap").write_bytes(content(number, number, 10 * number))
        ports, info = read(tmp_path / "ring_*.pcap", tmp_path / "ring_2.pcap")
        assert ports == [1, 2, 2, 3, 3, 3]
        assert info.files == [str(tmp_path / f"ring_{number}.pcap") for number in (1, 2, 3)]

    def test_none_matches(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"\*\.pcap: no file matches"):
            read(tmp_path / "*.pcap")

    def test_a_file_with_such_a_name_is_itself(self, tmp_path: Path) -> None:
        (tmp_path / "a[1].pcap").write_bytes(content(1, 1))
        (tmp_path / "a1.pcap").write_bytes(content(2, 2))
        ports, _ = read(tmp_path / "a[1].pcap")
        assert ports == [1]


class TestDirectories:
    def test_captures_are_read_and_the_rest_is_told(self, tmp_path: Path) -> None:
        below = tmp_path / "below"
        below.mkdir()
        (below / "b.pcap").write_bytes(content(2, 2, 10))
        (tmp_path / "a.pcap.gz").write_bytes(gzip.compress(content(2, 1)))
        (tmp_path / "notes.txt").write_text("words")
        (tmp_path / "empty.pcap").touch()
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        os.mkfifo(tmp_path / "pipe")
        ports, info = read(tmp_path, recursive=True)
        assert ports == [1, 1, 2, 2]
        assert info.notes == [
            f"{tmp_path}: 2 files were left out: empty.pcap (empty file (0 bytes)), "
            "notes.txt (not a capture (looks like plain text))"
        ]

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no capture in there"):
            read(tmp_path, recursive=True)

    def test_a_file_that_is_also_named_is_read_once(self, tmp_path: Path) -> None:
        path = write_pcap(tmp_path / "a.pcap", [(T0, eth_ipv4_tcp())])
        ports, _ = read(path, tmp_path, recursive=True)
        assert len(ports) == 1


class TestTouching:
    """Captures of which each begins at the very time at which the one before ends, as those of a rotating writer do."""

    def test_one_is_open_at_a_time(self, tmp_path: Path) -> None:
        times = [(0, 5, 7), (7, 7, 9), (9, 12)]
        paths = [
            write_pcap(tmp_path / f"{n}.pcap", [(T0 + at * 1000, eth_ipv4_tcp(sport=1000 * n + at)) for at in each])
            for n, each in enumerate(times)
        ]
        seen, most_open = [], 0
        with open_capture(paths, batch_segments=1) as capture:
            for batch in capture:
                seen += zip(batch["frame"].tolist(), batch["src_port"].tolist(), strict=True)
                most_open = max(most_open, len(capture.sources))
        assert seen == list(enumerate([0, 5, 7, 1007, 1007, 1009, 2009, 2012], 1))
        assert most_open == 1


class TestFollow:
    """A writer in a thread, told when what it wrote has been read; the reader ends when it has seen port 9."""

    def run(
        self, path: Path | str, write: Callable[[Callable[[int], None]], None], monkeypatch: pytest.MonkeyPatch
    ) -> tuple[list[int], Any]:
        monkeypatch.setattr(follow, "POLL_S", 0.02)
        ports: list[int] = []

        def until(segments: int) -> None:
            for _ in range(6000):
                if len(ports) >= segments:
                    return
                time.sleep(0.01)

        writer = threading.Thread(target=write, args=(until,))
        writer.start()
        with open_capture([path], follow=True) as capture:
            for batch in capture:
                ports += batch["src_port"].tolist()
                if 9 in ports:
                    break
        writer.join()
        return ports, capture.info

    def test_a_file_that_grows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path, data = tmp_path / "a.pcap", content(4, 1) + content(1, 9, 10)[24:]

        def write(_: Callable[[int], None]) -> None:
            with path.open("wb", buffering=0) as file:
                for at in range(0, len(data), 40):
                    file.write(data[at : at + 40])
                    time.sleep(0.005)

        ports, info = self.run(path, write, monkeypatch)
        assert (ports, info.faults, info.bytes) == ([1, 1, 1, 1, 9], [], len(data))

    @pytest.mark.parametrize(
        ("given", "names"),
        [
            ("cap", ["cap", "cap1", "cap2"]),
            ("ring.pcapng", [f"ring_0000{n}_2026112109000{n}.pcapng" for n in (1, 2, 3)]),
            ("ring_00001_20261121090001.pcapng", [f"ring_0000{n}_2026112109000{n}.pcapng" for n in (1, 2, 3)]),
            ("g-*.pcap", ["g-1200.pcap", "g-1201.pcap", "g-1202.pcap"]),
            (".", ["x", "y", "z"]),
        ],
    )
    def test_a_rotating_set(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, names: list[str]
    ) -> None:
        def write(until: Callable[[int], None]) -> None:
            for n, (name, port) in enumerate(zip(names, (1, 2, 9), strict=True)):
                with (tmp_path / name).open("wb", buffering=0) as file:
                    file.write(content(3, port, n * 10))
                    until(3 * n + 3)

        (tmp_path / "cap.txt").write_text("not of the set, or no capture " * 3)
        ports, info = self.run(tmp_path / given, write, monkeypatch)
        assert ports == [1, 1, 1, 2, 2, 2, 9, 9, 9]
        assert info.files == [str(tmp_path / name) for name in names]

    def test_a_ring_that_is_written_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As tcpdump -W does: the same names, cut to nothing and written again."""

        def write(until: Callable[[int], None]) -> None:
            for n, (name, port) in enumerate((("r0", 1), ("r1", 2), ("r0", 3), ("r1", 9))):
                with (tmp_path / name).open("wb", buffering=0) as file:
                    file.write(content(2, port, n * 10))
                    until(2 * n + 2)

        ports, _ = self.run(tmp_path / "r*", write, monkeypatch)
        assert ports == [1, 1, 2, 2, 3, 3, 9, 9]

    def test_a_file_cut_while_it_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.pcap"

        def write(until: Callable[[int], None]) -> None:
            path.write_bytes(content(5, 1))
            until(5)
            path.write_bytes(content(2, 9, 10))

        ports, info = self.run(path, write, monkeypatch)
        assert ports == [1] * 5 + [9] * 2
        assert "was cut while it was read" in str(info.faults[0])

    def test_text_is_not_followed_in_a_file(self, tmp_path: Path) -> None:
        """In a pipe it is read as it grows; a file of it may end within a line at any time."""
        path = tmp_path / "tcpdump.txt"
        path.write_text("1700000000.000000 IP 10.0.0.1.1 > 10.0.0.2.80: Flags [.], ack 1, win 1, length 0\n")
        with (
            pytest.raises(InputError, match="what tcpdump prints cannot be followed in a file; pipe it into: ctrack -"),
            open_capture([path], follow=True) as capture,
        ):
            list(capture)

    def test_what_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not several"):
            open_capture(["a", "b"], follow=True)
        with pytest.raises(InputError, match="no such directory"):
            open_capture([tmp_path / "no" / "a.pcap"], follow=True)
        (tmp_path / "words").write_text("words and more of them, so that there is a beginning")
        with pytest.raises(InputError, match="not a capture"):
            list(open_capture([tmp_path / "words"], follow=True))
