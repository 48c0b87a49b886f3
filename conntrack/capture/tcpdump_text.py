"""What tcpdump prints, as people paste it into tickets: lines of text into segments.

Owns which lines make a packet, what time it was, and the names of hosts; the words of one packet are tcpdump_line's,
its sequence numbers relative's. What the text leaves out is taken so: without a date (all but -tt and -tttt) the day is
1970-01-01; without -e a frame is the packet and an Ethernet header; without -v the time to live and the identification
are 0. The name of a host gets an address that nobody has, from 240.0.0.0/4 (RFC 1112 section 4) or 100::/64 (RFC 6666).
Times are taken for UTC: tcpdump prints them in its own time zone and does not say which.
"""

from __future__ import annotations

import re
from calendar import timegm

from conntrack.capture import tcpdump_line
from conntrack.capture.batch import Batch
from conntrack.capture.interfaces import Interface
from conntrack.capture.relative import Numbers
from conntrack.capture.stream import Stream
from conntrack.capture.tcpdump_line import TIME, Printed, Unknown, is_packet
from conntrack.core.decode import Outcome
from conntrack.core.walk import LAST_TIME_NS
from conntrack.errors import InputError

__all__ = ["TcpdumpTextReader", "is_tcpdump_text"]

MOST_LINE_BYTES = 65_536
"""A longer line is no packet (tcpdump -A prints up to the snap length on one)."""
MOST_NAMES = 65_536
LOOKED_BYTES = 16_384
"""Of the text are looked at to tell -ttt from -ttttt."""

_PREAMBLE = re.compile(
    r"reading from (file|PCAP-NG file|pcapng file) |tcpdump: |dropped privs|listening on (?P<name>\S+), "
    r"link-type (?P<link>\S+) .*(snapshot length|capture size) (?P<snap>\d+)|\d+ packets? captured"
    r"|(?P<received>\d+) packets? received by filter|(?P<dropped>\d+) packets? dropped by (kernel|interface)|Warning: "
)
_LINK_TYPES = {"EN10MB": 1, "LINUX_SLL": 113, "LINUX_SLL2": 276, "RAW": 101, "NULL": 0, "LOOP": 108, "PPP": 9}
_DAY_NS = 86_400 * 10**9


def is_tcpdump_text(head: bytes) -> bool:
    """Return whether an input that begins with these bytes is tcpdump's text: one of its first lines is a packet."""
    for raw in head.splitlines()[:8]:
        line = raw.decode("latin-1")
        time = TIME.match(line)
        if is_packet(line, time):
            return True
        if not _PREAMBLE.match(line):
            return False
    return False


class TcpdumpTextReader:
    """Reads what tcpdump printed from a stream that is at its first byte.

    Raises:
        InputError: a filter is asked for; or (from `walk`) printed with -q, or a name stands for a port that is not
            known here.
    """

    def __init__(self, stream: Stream, batch: Batch) -> None:
        if batch.filter:
            raise InputError(f"{stream.path}: what tcpdump prints cannot be filtered; give the expression to tcpdump")
        self.needed = 1
        self._stream = stream
        self._numbers = Numbers()
        self._names: dict[tuple[str, bool], bytes] = {}
        self._head: str | None = None  # of a packet whose second line is to come (-v)
        self._lines = 0
        self._strange = 0
        self._cut = 0
        self._interface = Interface(1, ts_resolution="1 us")
        self._clock = _Clock(_differences_are_steps(stream))

    def walk(self, batch: Batch) -> bool:
        """Fill `batch` from what the stream holds; see `Reader.walk`."""
        stream = self._stream
        while batch.rows < len(batch.segments):
            text = stream.data[stream.position : stream.end].data
            size = _line_bytes(text)
            if not size:
                if len(text) <= MOST_LINE_BYTES:
                    self.needed = len(text) + 1
                    return False
                size = len(text)  # no line of tcpdump's; its end comes as another line, and is none either
            line = bytes(text[:size]).decode("latin-1").rstrip("\r\n")
            stream.skip(size)
            self._take(line, batch)
        return True

    def finish(self, batch: Batch) -> None:
        """Take in a last line without an end, and say what was assumed; see `Reader.finish`."""
        rest = self._stream.peek(MOST_LINE_BYTES)
        if rest:
            self._stream.skip(len(rest))
            self._take(rest.decode("latin-1"), batch)
        if self._head is not None:
            self._none(Outcome.CUT_SHORT_HEADER, batch)
        batch.notes += [f"{self._stream.path}: {note}" for note in self._notes()]

    def interfaces(self) -> list[Interface]:
        """Return the interface that tcpdump said it listened on."""
        return [self._interface]

    def _notes(self) -> list[str]:
        notes = self._clock.notes()
        if self._names:
            (name, _), address = next(iter(self._names.items()))
            others = f" and {len(self._names) - 1} more" if len(self._names) > 1 else ""
            shown = ".".join(map(str, address[12:])) if address[:12] == _MAPPED else "100::..."
            notes.append(f"host names were printed; {name} is shown as {shown}{others}")
        if self._cut:
            notes.append(f"{self._cut} of its TCP packets are cut short and not used")
        if self._strange:
            notes.append(f"{self._strange} of its {self._lines} lines are none of tcpdump's")
        if self._numbers.forgotten:
            notes.append("too many connections at once to make all relative numbers absolute")
        return notes

    def _take(self, line: str, batch: Batch) -> None:
        self._lines += 1
        if self._head is not None:
            head, self._head = self._head, None
            if line.startswith("    ") and " > " in line:
                self._packet(head + " " + line.lstrip(), batch)
                return
            self._none(Outcome.CUT_SHORT_HEADER if " TCP " in head else tcpdump_line.outcome_of(head), batch)
        if line.startswith(("\t", "  ")) or not line:
            return  # what is in the packet, of -v, -x or -A
        time = TIME.match(line)
        if not time and not is_packet(line, None):
            self._other(line)
            return
        batch.begin_frame(self._clock.read(time))
        rest = line[time.end() :] if time else line
        if "(tos 0x" in rest and rest.endswith(")") and ": Flags [" not in rest:
            self._head = rest  # -v prints IPv4's own fields on a line, and the rest of the packet on another
        else:
            self._packet(rest, batch)

    def _other(self, line: str) -> None:
        said = _PREAMBLE.match(line)
        if said is None:
            self._strange += 1
            return
        interface = self._interface
        if said["name"]:
            interface.name, interface.snap_bytes = said["name"], int(said["snap"][:9])
            interface.link_type = _LINK_TYPES.get(said["link"], 1)
        if said["received"]:
            interface.received = int(said["received"][:18])
        if said["dropped"]:
            interface.dropped = (interface.dropped or 0) + int(said["dropped"][:18])

    def _packet(self, text: str, batch: Batch) -> None:
        try:
            printed = tcpdump_line.parse(text)
            if printed is None:
                self._none(tcpdump_line.outcome_of(text), batch)
            else:
                self._segment(printed, batch)
        except ValueError:
            self._cut += 1
            self._none(Outcome.CUT_SHORT_HEADER, batch)
        except Unknown as unknown:
            self._none(Outcome.CUT_SHORT_HEADER, batch)
            raise InputError(f"{self._stream.path}: line {self._lines}: {unknown}") from None

    def _none(self, outcome: Outcome, batch: Batch) -> None:
        batch.counts[outcome] += 1

    def _segment(self, printed: Printed, batch: Batch) -> None:
        source = self._address(printed.source, printed.ip6)
        target = self._address(printed.target, printed.ip6)
        src_port, dst_port = tcpdump_line.port_of(printed.src_port), tcpdump_line.port_of(printed.dst_port)
        seq, ack = self._numbers.absolute(
            (source, src_port), (target, dst_port), printed.flags, printed.seq, printed.ack, printed.payload_bytes
        )
        batch.add_segment(
            source,
            target,
            seq,
            ack if printed.flags & 16 else 0,
            printed.payload_bytes,
            printed.wire_bytes,
            printed.tsval,
            printed.tsecr,
            src_port,
            dst_port,
            printed.window,
            printed.flags,
            printed.ip_id,
            printed.mss,
            4 if source[:12] == _MAPPED else 6,
            printed.ttl,
            printed.window_scale,
            printed.options,
        )

    def _address(self, word: str, ip6: bool) -> bytes:
        address = tcpdump_line.address_of(word)
        if address is None:
            address = self._names.get((word, ip6))
            if address is None:
                number = len(self._names) + 1
                if number > MOST_NAMES:
                    raise InputError(f"{self._stream.path}: line {self._lines}: too many host names; print with -n")
                high = b"\x01\x00" + bytes(12) if ip6 else _MAPPED + b"\xf0\x00"
                address = self._names[word, ip6] = high + number.to_bytes(2, "big")
        return address


_MAPPED = bytes(10) + b"\xff\xff"


class _Clock:
    """Times as they are printed into nanoseconds since 1970.

    Args:
        steps: differences are to the packet before (-ttt), not to the first (-ttttt).
    """

    def __init__(self, steps: bool) -> None:
        self._steps = steps
        self._differences = False
        self._day_ns = 0
        self._before_ns: int | None = None
        self._undated = self._untimed = 0

    def read(self, time: re.Match[str] | None) -> int:
        if time is None:
            self._untimed += 1
            return 0
        if time["epoch"]:
            fraction = time["epoch_fraction"]
            return min(int(time["epoch"]) * 10**9 + _fraction_ns(fraction), LAST_TIME_NS)
        hms = (int(time["hour"]), int(time["minute"]), int(time["second"]))
        clock_ns = (hms[0] * 3600 + hms[1] * 60 + hms[2]) * 10**9 + _fraction_ns(time["fraction"])
        if time["year"]:
            try:
                midnight_s = timegm((int(time["year"]), int(time["month"]), int(time["day"]), 0, 0, 0))
            except ValueError:  # no such day
                midnight_s = 0
            return midnight_s * 10**9 + clock_ns
        self._undated += 1
        if time["sign"]:
            self._differences = True
            clock_ns = -clock_ns if time["sign"] == "-" else clock_ns
            if self._steps:
                clock_ns += self._before_ns or 0
                clock_ns = max(-LAST_TIME_NS, min(clock_ns, LAST_TIME_NS))
            self._before_ns = clock_ns
            return clock_ns
        clock_ns += self._day_ns
        if self._before_ns is not None and clock_ns < self._before_ns - _DAY_NS // 2:  # past midnight
            self._day_ns += _DAY_NS
            clock_ns += _DAY_NS
        self._before_ns = clock_ns
        return clock_ns

    def notes(self) -> list[str]:
        notes = []
        if self._undated:
            what = "no date is printed; the day is taken for 1970-01-01"
            if self._differences:
                since = "the packet before (-ttt)" if self._steps else "the first one (-ttttt)"
                what += f", and times are taken for those since {since}"
            notes.append(what)
        if self._untimed:
            notes.append("no times are printed (-t); what depends on time is not known")
        return notes


def _fraction_ns(digits: str) -> int:
    # Six digits or nine; others are what microseconds beyond a second look like.
    return int(digits) if len(digits) == 9 else int(digits) * 1000


def _differences_are_steps(stream: Stream) -> bool:
    # -ttt and -ttttt look alike. Times since the first packet hardly ever go back, those since the one before often do.
    head = stream.peek(3)
    if head[:1] not in (b" ", b"-") or not head[1:].isdigit():
        return False
    before = ("", "", "", 0)
    fallen = 0
    for raw in stream.peek(LOOKED_BYTES).split(b"\n"):
        time = TIME.match(raw.decode("latin-1"))
        if time and time["sign"]:
            now = (time["hour"], time["minute"], time["second"], _fraction_ns(time["fraction"]))
            fallen += 4 * (now < before) - 1
            before = now
    return fallen > -1


def _line_bytes(text: memoryview) -> int:
    # Length of the first line with its end, 0 if its end is not there.
    step = 512
    for start in range(0, len(text), step):
        found = bytes(text[start : start + step]).find(b"\n")
        if found >= 0:
            return start + found + 1
    return 0
