"""What `ctrack live` knows at an instant, and how a person reads it: the screen, and a line where there is none.

Owns the words and where they stand; a screen is a list of lines that fit. Nothing here writes to a terminal.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from conntrack.report.format import bytes_text, clock, count, duration, instant, words

if TYPE_CHECKING:
    from conntrack.capture import Capture
    from conntrack.detect.finding import Finding
    from conntrack.live import Change, Look

__all__ = ["Status", "change_line", "memory_bytes", "screen", "status_line", "take_status"]

_SERVICE_COUNTS = ("connections", "established", "refused", "reset", "unanswered")
_MOST_FINDINGS = 6
"""On a screen of 24 lines; more where there is more room."""


@dataclass(frozen=True, slots=True)
class Status:
    """A look, and the account of the capture at that time.

    Attributes:
        source: what is captured on, in words.
        running_s: since the start.
        window_s: how far back findings and services reach.
        packets, bytes: captured so far.
        skipped: packets not tracked, by reason.
        dropped: packets lost by the capturing program, as far as it says; None while it says nothing.
        waiting: segments taken from it and not tracked yet.
        memory_bytes: of this process.
    """

    look: Look
    source: str
    running_s: float
    window_s: float
    packets: int = 0
    bytes: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    dropped: int | None = None
    waiting: int = 0
    memory_bytes: int = 0


def take_status(
    look: Look, capture: Capture, *, source: str, running_s: float, window_s: float, waiting: int
) -> Status:
    """Return what is known now."""
    info = capture.info
    described = [interface for input_ in info.described for interface in input_.interfaces]
    for open_ in list(capture.sources):
        described += open_.reader.interfaces() if open_.reader is not None else []
    dropped = [interface.dropped for interface in described if interface.dropped is not None]
    return Status(
        look=look,
        source=source,
        running_s=running_s,
        window_s=window_s,
        packets=info.packets,
        bytes=info.bytes,
        skipped=dict(info.skipped),
        dropped=sum(dropped) if dropped else None,
        waiting=waiting,
        memory_bytes=memory_bytes(),
    )


def memory_bytes() -> int:
    """Return the memory that this process has now; where the system does not tell, the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def status_line(status: Status, *, epoch: bool = False) -> str:
    """Return the status as one line."""
    look = status.look
    at = "no segment yet" if look.ts_ns is None else _short(look.ts_ns, epoch=epoch)
    parts = [
        f"{look.segments_per_s:,.0f} segments/s",
        f"{look.connections_per_s:,.0f} connections/s",
        f"{count(look.open_connections)} open",
        count(len(look.findings), "finding"),
        f"dropped {_dropped(status)}",
        f"memory {bytes_text(status.memory_bytes)}",
    ]
    return f"{at}  {', '.join(parts)}"


def change_line(change: Change, *, epoch: bool = False) -> str:
    """Return an event as one line."""
    finding = change.finding
    what = f"{finding.severity.upper()} {words(finding.kind)} {finding.subject}"
    return f"{_short(change.ts_ns, epoch=epoch)}  {change.event}: {what}, {_how_many(finding)}"


def screen(status: Status, width: int, height: int, *, color: bool = False, epoch: bool = False) -> list[str]:
    """Return the screen: at most `height` lines of at most `width` columns, the escapes of colours not counted."""
    look = status.look
    from conntrack.report.sheet import Sheet

    sheet = Sheet(width, color=color)

    at = "waiting for the first segment" if look.ts_ns is None else _short(look.ts_ns, epoch=epoch)
    sheet.add(f"ctrack live  {status.source}  {at}", "heading")
    sheet.add(
        f"{look.segments_per_s:,.0f} segments/s, {look.connections_per_s:,.0f} connections/s, "
        f"{count(look.open_connections)} open, {count(look.connections)} since the start"
    )
    sheet.add(
        f"{count(status.packets, 'packet')} ({bytes_text(status.bytes)}), dropped {_dropped(status)}, "
        f"waiting {count(status.waiting)}, memory {bytes_text(status.memory_bytes)}"
    )
    sheet.add(f"running {duration(round(status.running_s * 1e9))}; Ctrl-C ends it with the report")
    window = duration(round(status.window_s * 1e9))
    sheet.add("")
    sheet.add(f"Findings of the last {window}: {count(len(look.findings)) if look.findings else 'none'}", "heading")
    room = max(_MOST_FINDINGS, height - 18)
    shown = look.findings if len(look.findings) <= room else look.findings[: room - 1]
    for finding in shown:
        sheet.add(_finding(finding, look.ts_ns or 0, width, epoch=epoch), finding.severity)
    if len(look.findings) > len(shown):
        sheet.add(f"  and {count(len(look.findings) - len(shown))} more, none worse")
    sheet.add("")
    sheet.add("States now", "heading")
    sheet.add(f"  clients  {_states(look.client_states)}")
    sheet.add(f"  servers  {_states(look.server_states)}")
    sheet.add("")
    sheet.add(f"Services of the last {window}", "heading")
    rows = ([row["service"], *(count(row[key]) for key in _SERVICE_COUNTS)] for row in look.services[:height])
    sheet.table(["service", *_SERVICE_COUNTS], rows)
    return sheet.text().splitlines()[:height]


def _finding(finding: Finding, now_ns: int, width: int, *, epoch: bool) -> str:
    what = f"{finding.severity.upper():8}  {words(finding.kind)} {finding.subject}"
    ago = now_ns - finding.last_ts_ns
    last = "" if ago < 2 * 10**9 else f" to {clock(finding.last_ts_ns, epoch=epoch)}"
    times = f"{'' if last else 'since '}{clock(finding.first_ts_ns, epoch=epoch)}{last}"
    line = f"  {what}  {_how_many(finding)}, {times}"
    return line if len(line) <= width else f"  {what}  {count(finding.count, 'connection')}, {times}"


def _how_many(finding: Finding) -> str:
    at_once = f" ({count(finding.peak)} at once)" if finding.peak > 1 else ""
    return f"{count(finding.count, 'connection')}{at_once}"


def _states(states: dict[str, int]) -> str:
    there = sorted(((number, state) for state, number in states.items() if number), key=lambda item: -item[0])
    return ", ".join(f"{state} {count(number)}" for number, state in there) or "none open"


def _dropped(status: Status) -> str:
    return "told at the end" if status.dropped is None else count(status.dropped)


def _short(ts_ns: int, *, epoch: bool) -> str:
    """Return an instant to the second."""
    text = instant(ts_ns, epoch=epoch)
    return text[:-10] if epoch else f"{text[:19]}Z"
