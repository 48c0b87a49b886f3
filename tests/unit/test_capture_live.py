"""conntrack.capture.live: how dumpcap is run, what its failures mean, and that what is kept is what was read.

A dumpcap of our own stands in for the real one; the real one is met in tests/kernel/test_live_capture.py.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from pathlib import Path

import pytest
from frames import SYN, eth_ipv4_tcp, interface, packet, pcap_bytes, section

from conntrack.capture import open_capture
from conntrack.capture.live import Captured, Kept, open_interfaces, open_pipe
from conntrack.capture.stream import Stream
from conntrack.errors import CaptureError, ConntrackError, InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


def program(folder: Path, code: str, name: str = "dumpcap") -> Path:
    """Put a program into `folder`; it notes its arguments in a file beside it."""
    path = folder / name
    head = f"#!{sys.executable}\nimport os, sys, time\nopen({str(path) + '.args'!r}, 'w').write(repr(sys.argv[1:]))\n"
    path.write_text(head + textwrap.dedent(code))
    path.chmod(0o755)
    return path


def stream_of(frames: int = 3) -> bytes:
    blocks = [packet(eth_ipv4_tcp(sport=1000 + n, flags=SYN, seq=1, ack=0), 10**12 + n) for n in range(frames)]
    return section() + interface() + b"".join(blocks)


def test_the_stream_is_read_and_kept_byte_by_byte(folder: Path, tmp_path: Path) -> None:
    data = stream_of()
    program(folder, f"os.write(1, {data!r})")
    kept = tmp_path / "kept.pcapng"
    capture, _ = open_interfaces(["lo"], filter="tcp", keep=str(kept))
    with capture:
        assert sum(len(batch) for batch in capture) == 3
    assert kept.read_bytes() == data
    assert capture.info.files == ["lo"] and capture.info.packets == 3
    arguments = (folder / "dumpcap.args").read_text()
    assert "'-i', 'lo'" in arguments and "'-f', 'tcp'" in arguments and "'-s', '0'" in arguments, "whole frames"


def test_frames_are_cut_where_nobody_keeps_them(folder: Path) -> None:
    program(folder, f"os.write(1, {stream_of()!r})")
    capture, _ = open_interfaces(["lo", "any"])
    with capture:
        list(capture)
    arguments = (folder / "dumpcap.args").read_text()
    assert "'-s', '256'" in arguments and "'-i', 'lo', '-i', 'any'" in arguments and "-f" not in arguments


def test_it_ends_when_it_is_asked_to(folder: Path) -> None:
    code = f"""
        import signal
        def end(*_):
            os.write(1, {packet(eth_ipv4_tcp(sport=9, flags=SYN), 10**12 + 9)!r})
            os._exit(0)
        signal.signal(signal.SIGTERM, end)
        os.write(1, {stream_of()!r})
        while True:
            time.sleep(1)
    """
    program(folder, code)
    capture, captured = open_interfaces(["lo"])
    with capture:
        batches = iter(capture)
        assert len(next(batches)) == 3, "handed out while nothing more comes"
        captured.stop()
        assert sum(len(batch) for batch in batches) == 1, "what it writes at the end is read"
    assert not capture.info.faults


@pytest.mark.parametrize("how", ["by itself", "by the signal"])
def test_an_end_before_anything_came_is_a_capture_without_packets(folder: Path, tmp_path: Path, how: str) -> None:
    """`--for 0.1` said "empty (0 bytes)", and its exit code that the input was damaged."""
    on_end = "lambda *_: os._exit(0)" if how == "by itself" else "signal.SIG_DFL"
    code = (
        f"import signal; signal.signal(signal.SIGTERM, {on_end}); open({str(folder / 'begun')!r}, 'w'); time.sleep(60)"
    )
    program(folder, code)
    kept = tmp_path / "kept.pcapng"
    capture, captured = open_interfaces(["lo"], keep=str(kept))
    with capture:
        while not (folder / "begun").exists():
            time.sleep(0.01)
        captured.stop()
        assert list(capture) == []
    assert not capture.info.faults and capture.info.packets == 0
    with open_capture([kept]) as again:
        assert list(again) == [] and not again.info.faults


def test_what_is_left_of_it_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conntrack.capture.live.ENDS_WITHIN_S", 0.1)
    program(folder, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(1, b'x'); time.sleep(600)")
    captured = Captured(["lo"])
    assert captured.readinto(memoryview(bytearray(1))) == 1
    captured.close()
    assert captured._process.returncode == -9


SAID = {
    'You do not have permission to capture on device "lo".\n(socket: Operation not permitted)': "lo: no permission to "
    "capture; join the group wireshark (",
    "Invalid capture filter \"tcp prt\" for interface 'lo'.\n\nThat string isn't a valid capture filter (can't parse "
    "filter expression: syntax error).": "--filter: 'tcp prt' is no expression of pcap-filter(7) (can't parse filter "
    "expression: syntax error)",
    "The capture session could not be initiated (No such device exists).": "lo: cannot be captured on (The capture "
    "session could not be initiated (No such device exists)); dumpcap -D lists what can",
    "Couldn't run /usr/bin/dumpcap in child process: No such file or directory": "lo: tshark is installed without "
    "dumpcap, which it captures through; install the package wireshark-common, or pipe a capture in: tcpdump -i lo ",
    "Couldn't run /usr/bin/dumpcap in child process: Permission denied": "lo: no permission to capture; join the group",
    "": "lo: cannot be captured on (exit code 1); dumpcap -D lists what can",
}


@pytest.mark.parametrize("words", SAID)
def test_what_it_says_when_it_cannot(folder: Path, words: str) -> None:
    program(
        folder, f"sys.stderr.write('Capturing on lo\\ndumpcap: ' + {words!r} if {bool(words)} else ''); sys.exit(1)"
    )
    capture, _ = open_interfaces(["lo"], filter="tcp prt")
    with pytest.raises(InputError) as error, capture:
        list(capture)
    assert str(error.value).startswith(SAID[words])
    assert "\n" not in str(error.value)


def test_an_end_by_itself_is_told_and_what_came_before_is_used(folder: Path) -> None:
    words = "dumpcap: The network adapter on which the capture was being done is no longer running."
    program(folder, f"os.write(1, {stream_of()!r}); sys.stderr.write({words!r}); sys.exit(1)")
    capture, _ = open_interfaces(["lo"])
    with capture:
        assert sum(len(batch) for batch in capture) == 3
    (fault,) = capture.info.faults
    assert isinstance(fault, CaptureError) and "is no longer running); what came before was used" in str(fault)


def test_no_such_interface(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^nope: no such interface; there are .*lo.*, and any$"):
        open_interfaces(["lo", "nope"])


def test_nothing_is_installed(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^lo: neither dumpcap nor tshark is installed; install the package wires"):
        open_interfaces(["lo"])


def test_a_dumpcap_that_others_may_run(folder: Path) -> None:
    """As Debian installs it: root and the group wireshark."""
    (folder / "dumpcap").write_text("")
    (folder / "dumpcap").chmod(0o640)
    with pytest.raises(InputError, match=r"^lo: no permission to capture; join the group wireshark"):
        open_interfaces(["lo"])


def test_dumpcap_beside_tshark_else_tshark_itself(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "wireshark"
    elsewhere.mkdir()
    tshark = program(elsewhere, f"os.write(1, {stream_of()!r})", "tshark")
    (folder / "tshark").symlink_to(tshark)
    capture, _ = open_interfaces(["lo"])
    with capture:
        assert sum(len(batch) for batch in capture) == 3
    assert (elsewhere / "tshark.args").exists()
    assert capture.info.notes == [f"no dumpcap is found: captured by tshark, {folder / 'tshark'}"]
    program(elsewhere, f"os.write(1, {stream_of(4)!r})")
    capture, _ = open_interfaces(["lo"])
    with capture:
        assert sum(len(batch) for batch in capture) == 4
    assert capture.info.notes == [f"dumpcap is not in PATH: captured by tshark's, {elsewhere / 'dumpcap'}"]


def test_what_fails_before_it_captures_is_told_although_it_was_to_end(folder: Path) -> None:
    program(folder, "sys.stderr.write('dumpcap: You do not have permission to capture'); sys.exit(2)")
    capture, captured = open_interfaces(["lo"])
    captured._process.wait()
    captured.stop()
    with pytest.raises(InputError, match=r"^lo: no permission to capture"), capture:
        list(capture)


def test_a_pipe_is_kept_as_it_is(tmp_path: Path) -> None:
    """Also what is compressed, and what a filter leaves out."""
    data = pcap_bytes([(10**18 + n, eth_ipv4_tcp(sport=1000 + n, flags=SYN)) for n in range(4)])
    pipe, kept = tmp_path / "pipe", tmp_path / "kept.pcap"
    os.mkfifo(pipe)
    pid = os.fork()
    if not pid:
        pipe.write_bytes(data)
        os._exit(0)
    with open_pipe(str(pipe), filter="tcp src port 1001", keep=str(kept)) as capture:
        assert sum(len(batch) for batch in capture) == 1
    os.waitpid(pid, 0)
    assert kept.read_bytes() == data
    assert capture.info.skipped == {"filtered": 3}


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes([(0, b"")]))
    with pytest.raises(InputError, match=r"a.pcap: is the capture itself; give another name to -w"):
        open_pipe(str(path), keep=str(path))
    with pytest.raises(InputError, match=r"no such file or directory; give another name to -w"):
        open_pipe(str(path), keep=str(tmp_path / "no" / "file"))
    with pytest.raises(ConntrackError, match=r"nothing: no such file"):
        open_pipe(str(tmp_path / "nothing"))
    assert path.stat().st_size


def test_a_full_disk_ends_the_keeping_and_not_the_reading(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.fail("/dev/full is not here")
    path = tmp_path / "a.pcap"
    path.write_bytes(b"0123456789")
    notes: list[str] = []
    stream = Stream(str(path))
    stream.source = Kept(stream.source, "/dev/full", notes.append)
    with stream:
        assert stream.peek(10) == b"0123456789"
    assert notes == ["/dev/full: no space left on device; packets are not kept any more"]


def ends_when_told(*, filter: str) -> list[str]:
    """Capture on lo with what is installed, if this user may; return the notes."""
    capture, captured = open_interfaces(["lo"], filter=filter)
    try:
        with capture:
            time.sleep(0.5)
            captured.stop()
            list(capture)
    except InputError as error:
        assert "permission" in str(error)
    return capture.info.notes


@pytest.mark.skipif(shutil.which("dumpcap") is None and os.environ.get("CI") != "true", reason="dumpcap is missing")
def test_the_real_one_takes_our_options() -> None:
    """Without the right to capture it says so, with it it ends when it is told; what it does not know is neither."""
    assert ends_when_told(filter="tcp port 9") == []


@pytest.mark.skipif(shutil.which("tshark") is None and os.environ.get("CI") != "true", reason="tshark is missing")
def test_where_only_the_real_tshark_is_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own dumpcap captures."""
    installed = shutil.which("tshark")
    assert installed is not None
    (tmp_path / "tshark").symlink_to(installed)
    monkeypatch.setenv("PATH", str(tmp_path))
    (note,) = ends_when_told(filter="tcp port 9")
    assert note == f"dumpcap is not in PATH: captured by tshark's, {Path(installed).resolve().with_name('dumpcap')}"
