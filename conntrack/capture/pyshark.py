"""pyshark as a source: what tshark dissects, as segments. For display filters, decrypted traffic, odd encapsulations.

Owns what a pyshark packet says of its TCP segment, and how pyshark is run: in its JSON mode with frame, ip, ipv6 and
tcp only (6,000 packets a second; its default does 400, our own readers millions), packets not kept, in a thread with an
event loop of its own, so that it works inside of a running one (Jupyter). The options of a segment are read by
core.decode, from the bytes that tshark shows. Of tunnels it is the innermost IP; TCP quoted in ICMP is none. Networks
are not told apart: `tag` and `path` of its segments are 0.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import queue
import re
import struct
import sys
import threading
import warnings
from calendar import timegm
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from conntrack.capture import BATCH_SEGMENTS
from conntrack.capture.batch import Batch
from conntrack.capture.interfaces import Interface
from conntrack.capture.stream import Stream
from conntrack.core.abi import OPTIONS_CUT, SEGMENT_DTYPE
from conntrack.core.decode import Outcome, decode
from conntrack.errors import CaptureError, ConntrackError, InputError

__all__ = ["Dissection", "PysharkReader", "from_pyshark"]

PARAMETERS = [
    *("-j", "frame ip ipv6 tcp"),
    *("-o", "tcp.desegment_tcp_streams:FALSE"),  # a segment is a segment, and tshark keeps no payload
    *("-o", "ip.defragment:FALSE"),
    *("-o", "ipv6.defragment:FALSE"),
]
MOST_WAITING = 512
"""Packets that tshark may be ahead: it bounds the memory on our side."""
ENDS_WITHIN_S = 10
"""Of its last packet, tshark does; else it is killed."""
LINK_IPV4, LINK_IPV6 = 228, 229

_LAST_LINE = re.compile(r"Last error line: (.*)")
_NOT_TCP = {
    "arp": Outcome.ARP,
    "udp": Outcome.UDP,
    "icmp": Outcome.ICMP,
    "icmpv6": Outcome.ICMP,
    "sctp": Outcome.SCTP,
    "esp": Outcome.ESP,
}
_TSHARK_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d+)Z")


class Dissection:
    """Has tshark read files through pyshark: a `source.OpenReader`.

    Args:
        display_filter: Wireshark's, None for all; what does not pass is counted as "filtered".

    Raises:
        InputError: pyshark or tshark is not installed, or Python is too new for pyshark.
    """

    def __init__(self, display_filter: str | None = None) -> None:
        self._make = _file_capture()
        self._display_filter = display_filter

    def __call__(self, stream: Stream, batch: Batch) -> PysharkReader:
        """Return the reader of one file.

        Raises:
            InputError: tshark takes the display filter for none, or cannot read the file.
        """
        size = os.stat(stream.path).st_size
        source = _Dissected(_packets(self._make, stream.path, self._display_filter), size)
        stream.source.close()
        stream.exchange(source)
        stream.format = "dissected by tshark"
        return PysharkReader(source, batch)


class _Dissected:
    """The packets of one file, in the place of its bytes: `stream.Bytes` without any, closed with the stream.

    The first packet is asked for at once: what cannot be read at all is said before anything is written.
    """

    live = False

    def __init__(self, packets: Generator[Any, None, None], size: int) -> None:
        self.raw_bytes = 0
        self._packets = packets
        self._size = size
        self._first: list[Any] = []
        self._fault: CaptureError | None = None
        try:
            self._first.append(next(packets))
        except StopIteration:
            pass
        except CaptureError as fault:
            self._fault = fault

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._fault is not None:
            raise self._fault
        return self._first.pop() if self._first else next(self._packets)

    def readinto(self, room: memoryview) -> int:
        self.raw_bytes = self._size
        return 0

    def ready(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        self._packets.close()  # ends the thread


class PysharkReader:
    """Fills batches with what tshark says of one file; as every other reader (batch.Reader)."""

    needed = 1

    def __init__(self, source: _Dissected, batch: Batch) -> None:
        self._packets = source
        self._frames_before = batch.frames

    def walk(self, batch: Batch) -> bool:
        """Fill `batch`; see `Reader.walk`."""
        for packet in self._packets:
            _take(packet, batch, self._frames_before)
            if batch.rows == len(batch.segments):
                return True
        return False

    def finish(self, batch: Batch) -> None:
        """Do nothing: how tshark ended was said by `walk`."""

    def interfaces(self) -> list[Interface]:
        """Return nothing: tshark does not say what the file says of them."""
        return []


def from_pyshark(capture: Iterable[Any], *, batch_segments: int = BATCH_SEGMENTS) -> Iterator[npt.NDArray[np.void]]:
    """Yield the TCP segments of a pyshark capture, in batches of SEGMENT_DTYPE, each valid until the next is asked for.

    Made with `use_json=True` it is several times faster; `keep_packets=False` keeps the memory small.

    Args:
        capture: a pyshark capture (default or JSON mode), or any iterable of its packets.
        batch_segments: the most rows that a batch has.

    Raises:
        ConntrackError: it is iterated inside of a running event loop, which pyshark cannot do.
        CaptureError: tshark failed; raised after everything that came before.
    """
    batch = Batch(batch_segments)
    name = str(getattr(capture, "input_filepath", "pyshark"))
    try:
        for packet in capture:
            _take(packet, batch, 0)
            if batch.rows == batch_segments:
                yield batch.segments
                batch.rows = 0
    except RuntimeError as error:
        if "already running" not in str(error):
            raise
        raise ConntrackError(
            "pyshark cannot be iterated inside of a running event loop; open the file with "
            "conntrack.read_segments(FILE, reader='pyshark'), or iterate in a thread"
        ) from error
    except Exception as error:
        fault = _fault(name, error)
        if fault is None:
            raise
        if batch.rows:
            yield batch.segments[: batch.rows]
        raise fault from error
    if batch.rows:
        yield batch.segments[: batch.rows]


def _file_capture() -> Any:
    # pyshark's FileCapture, with three of its habits mended.
    if sys.version_info >= (3, 14):
        raise InputError("--reader pyshark: pyshark does not run on Python 3.14 and later; use Python 3.13")
    try:
        import pyshark
        from pyshark.tshark.tshark import TSharkNotFoundException, get_process_path
    except ImportError:
        raise InputError("--reader pyshark: pyshark is not installed; pip install pyshark") from None
    try:
        get_process_path()
    except TSharkNotFoundException:
        raise InputError("--reader pyshark: tshark is not installed; install the package tshark") from None

    class FileCapture(pyshark.FileCapture):  # type: ignore[misc]
        said = ""

        async def _cleanup_subprocess(self, process: Any) -> None:
            # pyshark kills a tshark that has written everything but not ended yet, and so may miss how it ends; of one
            # that is left early it leaves the pipe open, with what had been written.
            try:
                if self._eof_reached:
                    await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)
                await super()._cleanup_subprocess(process)
            finally:
                self._running_processes.discard(process)
                await asyncio.wait_for(process.stdout.read(), ENDS_WITHIN_S)

        async def _handle_process_stderr_forever(self, stderr: Any) -> None:
            # pyshark keeps the last line only: of a wrong display filter that is the caret under it.
            while line := (await stderr.readline()).decode(errors="replace").strip():
                if line.startswith("tshark: ") and not self.said:
                    self.said = line.removeprefix("tshark: ")

    return FileCapture


def _packets(make: Any, path: str, display_filter: str | None) -> Generator[Any, None, None]:
    """Yield the packets of one file, from a thread that runs pyshark.

    Raises:
        InputError: tshark takes the display filter for none, or cannot read the file.
        CaptureError: tshark failed on the way.
    """
    waiting: queue.Queue[Any] = queue.Queue(MOST_WAITING)
    stop = threading.Event()

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def run() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        error: BaseException | None = None
        capture = None
        try:
            capture = make(
                path,
                keep_packets=False,
                use_json=True,
                display_filter=display_filter,
                custom_parameters=PARAMETERS,
                eventloop=loop,
            )
            packets = iter(capture)
            for packet in packets:
                put(packet)
                if stop.is_set():
                    packets.close()
                    break
        except BaseException as raised:  # whatever it is, it is raised where the packets are asked for
            error = raised
        if capture is not None:
            capture.close()
        loop.close()
        put(_End(error, getattr(capture, "said", "")))

    watcher = _usable_watcher()
    thread = threading.Thread(target=run, name="pyshark", daemon=True)
    thread.start()
    seen = False
    try:
        while not isinstance(item := waiting.get(), _End):
            seen = True
            yield item
        if item.error is not None:
            fault = _fault(path, item.error, item.said)
            if fault is None:
                if not isinstance(item.error, Exception):
                    raise item.error
                words = f"pyshark failed ({type(item.error).__name__}: {item.error}); what came before is used"
                raise CaptureError(path, 0, words) from item.error
            if not seen and "cut short" not in str(fault):
                raise InputError(f"{path}: tshark cannot read it: {item.said or item.error}")
            raise fault
    finally:
        stop.set()
        thread.join()
        if watcher is not None:
            _set_watcher(watcher)


def _usable_watcher() -> Any:
    # pyshark on the main thread leaves behind a watcher of child processes that works there only. Return it then.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        before = asyncio.get_child_watcher()
        if isinstance(before, asyncio.SafeChildWatcher):
            asyncio.set_child_watcher(asyncio.ThreadedChildWatcher())
            return before
    return None


def _set_watcher(watcher: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_child_watcher(watcher)


class _End:
    def __init__(self, error: BaseException | None, said: str) -> None:
        self.error = error
        self.said = said


def _fault(path: str, error: BaseException, said: str = "") -> CaptureError | None:
    # What tshark said, if it is tshark that failed.
    if type(error).__name__ != "TSharkCrashException":
        return None
    found = _LAST_LINE.search(str(error))
    line = said or (found[1].removeprefix("tshark: ") if found else str(error).splitlines()[0])
    return CaptureError(path, 0, f"tshark ended early: {line.rstrip('. ')}; what came before is used")


def _take(packet: Any, batch: Batch, before: int) -> None:
    # Count one packet, and add its segment. Frames that a display filter left out are counted as filtered.
    frame = packet.frame_info
    number = before + int(_field(frame, "frame", "number"))
    left_out = number - batch.frames - 1
    if left_out > 0:
        batch.tally["frames"] += left_out
        batch.counts[Outcome.FILTERED] += left_out
    batch.begin_frame(_time_ns(_field(frame, "frame", "time_epoch")))
    protocols = _field(frame, "frame", "protocols").split(":")
    ip, tcp = _layers(packet, protocols)
    if ip is None or tcp is None:
        batch.counts[_outcome(protocols)] += 1
        return
    try:
        row = _segment(ip, tcp)
    except (
        ValueError,
        KeyError,
        AttributeError,
        struct.error,
    ):  # tshark shows what there is of a cut or malformed header
        batch.counts[Outcome.CUT_SHORT_HEADER] += 1
        return
    out = batch.segments[batch.rows : batch.rows + 1]
    out[:] = row
    out["ts_ns"] = batch.tally["previous_ts_ns"]
    out["frame"] = batch.frames
    out["wire_bytes"] = int(_field(frame, "frame", "len"))
    batch.counts[Outcome.TCP] += 1
    batch.rows += 1


def _outcome(protocols: list[str]) -> Outcome:
    for name in protocols:
        if name in _NOT_TCP:
            return _NOT_TCP[name]
    if "ip" in protocols or "ipv6" in protocols:
        return Outcome.CUT_SHORT_HEADER if "tcp" in protocols else Outcome.OTHER_IP_PROTOCOL
    return Outcome.NOT_IP


def _layers(packet: Any, protocols: list[str]) -> tuple[Any, Any]:
    # The TCP layer and the IP layer right around it; None, None where there is none, or only one quoted by ICMP.
    if "tcp" not in protocols:
        return None, None
    around = protocols[: protocols.index("tcp")]
    if "icmp" in around or "icmpv6" in around:
        return None, None
    inner = next((name for name in reversed(around) if name in ("ip", "ipv6")), None)
    if inner is None:
        return None, None
    nth = around.count(inner)
    found = [each for layer in packet.layers if layer.layer_name == inner for each in _all_of(layer)]
    segments = [layer for layer in packet.layers if layer.layer_name == "tcp"]
    return (found[nth - 1], segments[0]) if len(found) >= nth and segments else (None, None)


def _all_of(layer: Any) -> list[Any]:
    return [layer, *getattr(layer, "duplicate_layers", ())]


def _field(layer: Any, prefix: str, name: str) -> str:
    # As text. In JSON mode the fields are a dict; elsewhere the attributes are.
    fields = getattr(layer, "_all_fields", None)
    value = fields.get(f"{prefix}.{name}") if isinstance(fields, dict) else None
    if value is None:
        value = getattr(layer, name)
    if isinstance(value, list):
        value = value[0]
    return str(value)


def _segment(ip: Any, tcp: Any) -> npt.NDArray[np.void]:
    """Return one SEGMENT_DTYPE without time, number and length of the frame, shape (1,)."""
    kind = ip.layer_name
    options = _options(tcp)
    length, header = int(_field(tcp, "tcp", "len")), 20 + len(options)
    flags = int(_field(tcp, "tcp", "flags"), 16)
    segment = struct.pack(
        ">HHIIHHHH",
        int(_field(tcp, "tcp", "srcport")),
        int(_field(tcp, "tcp", "dstport")),
        int(_field(tcp, "tcp", "seq_raw")),
        int(_field(tcp, "tcp", "ack_raw")),
        header // 4 << 12 | flags & 0x1FF,
        int(_field(tcp, "tcp", "window_size_value")),
        0,
        0,
    )
    source = ipaddress.ip_address(_field(ip, kind, "src"))
    try:
        target = ipaddress.ip_address(_field(ip, kind, "dst"))
    except AttributeError:  # source routing: the header's destination is the next hop
        target = ipaddress.ip_address(_field(ip, kind, "cur_rt"))
    addresses = source.packed + target.packed
    # A length of 0 says that the frame tells it: a payload may be larger than the field holds (offload).
    if kind == "ip":
        number, hops = int(_field(ip, kind, "id"), 16), int(_field(ip, kind, "ttl"))
        packet = struct.pack(">BBHHHBBH", 0x45, 0, 0, number, 0, hops, 6, 0) + addresses
        link_type = LINK_IPV4
    else:
        packet = struct.pack(">IHBB", 6 << 28, 0, 6, int(_field(ip, kind, "hlim"))) + addresses
        link_type = LINK_IPV6
    row = np.zeros(1, SEGMENT_DTYPE)
    outcome = decode(packet + segment + options, row, link_type, len(packet) + header + length)
    if outcome != Outcome.TCP:
        raise ValueError(outcome.name)
    if header < int(_field(tcp, "tcp", "hdr_len")):  # tshark shows what there is of them
        row["options"] |= OPTIONS_CUT
    return row


def _options(tcp: Any) -> bytes:
    if int(_field(tcp, "tcp", "hdr_len")) <= 20:
        return b""
    octets = bytes.fromhex(_field(tcp, "tcp", "options").replace(":", ""))
    return octets + bytes(-len(octets) % 4)


def _time_ns(text: str) -> int:
    # Seconds with nine digits; from tshark 4.4 on in JSON a date.
    dated = _TSHARK_TIME.fullmatch(text)
    if dated:
        *date, fraction = dated.groups()
        return timegm(tuple(map(int, date))) * 10**9 + int(fraction[:9].ljust(9, "0"))
    seconds, _, fraction = text.partition(".")
    whole = int(seconds) * 10**9
    part = int(fraction.ljust(9, "0"))  # more digits are more than a second of nanoseconds
    return whole - part if seconds.startswith("-") else whole + part
