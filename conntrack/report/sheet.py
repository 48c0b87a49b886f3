"""A sheet of text: paragraphs, headings, tables and findings that fit its width. What every text report is written on.

Plain text that needs no colour; colour, where it is asked for, repeats what the words say. Everything from outside goes
through `printable` before a person sees it. Knows the shape of a Finding and no report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from conntrack.detect.finding import Finding
from conntrack.report.cells import wrap
from conntrack.report.format import count, duration, evidence_text, instant, printable, told
from conntrack.report.glossary import EVIDENCE, Term

__all__ = ["Sheet"]

_SGR = {"critical": "1;31", "warning": "1;33", "info": "1;36", "heading": "1", "good": "1;32"}
_FINDINGS_SHOWN = 10
_FLOW_IDS_SHOWN = 10
_UNIT = re.compile(r"(?<=\d) (?=(?:%|[kMGT]?B|ms|s|min|h|d)(?!\w))")
_NO_BREAK = "\u00a0"
"""Between a number and its unit while lines are broken. It is not printable: no text from outside has one here."""
_LABEL = 26
"""Columns for the names of evidence."""


class Sheet:
    """Collects lines; every method appends.

    Args:
        width: columns at most; below 60 is taken as 60, above 100 as 100.
        color: with ANSI colours.
        epoch: times in unix seconds instead of RFC 3339.
        unweakened: what is said of a finding that nothing speaks against.
        meanings: the glossary that has the names of evidence.
    """

    def __init__(
        self,
        width: int,
        *,
        color: bool,
        epoch: bool,
        unweakened: str,
        meanings: Mapping[str, Term] = EVIDENCE,
    ) -> None:
        self.width = min(max(width, 60), 100)
        self._color = color
        self.epoch = epoch
        self._unweakened = unweakened
        self._meanings = meanings
        self._lines: list[str] = []

    def text(self) -> str:
        """Return everything that was added."""
        return "\n".join(self._lines) + "\n"

    def findings(self, findings: tuple[Finding, ...]) -> None:
        """Add the worst ones in full, and how many more there are."""
        for number, finding in enumerate(findings[:_FINDINGS_SHOWN], 1):
            self._finding(number, finding)
        if len(findings) > _FINDINGS_SHOWN:
            left = count(len(findings) - _FINDINGS_SHOWN, "more finding")
            self.heading(f"{left}, none worse: --format json has them", style="")

    def _finding(self, number: int, finding: Finding) -> None:
        kind = finding.kind.replace("_", " ")
        self.heading(f"{number}. {finding.severity.upper()}  {kind}  {finding.subject}", style=finding.severity)
        length = duration(finding.last_ts_ns - finding.first_ts_ns)
        since, until = (instant(ts_ns, epoch=self.epoch) for ts_ns in (finding.first_ts_ns, finding.last_ts_ns))
        self.wrap(f"since {since}", indent=2)
        self.wrap(f"until {until} ({length})", indent=2)
        at_once = f", {count(finding.peak)} at the peak" if finding.peak > 1 else ""
        self.wrap(f"{count(finding.count, 'connection')}{at_once}", indent=2)
        for key, value in told(finding.evidence):
            label, text = evidence_text(key, value, epoch=self.epoch, meanings=self._meanings)
            self.wrap(text, indent=4, label=label)
        self._bullets("How sure:", finding.caveats or (self._unweakened,))
        self._bullets("Next:", finding.next_steps)
        if finding.flow_ids:
            shown = ", ".join(str(flow_id) for flow_id in finding.flow_ids[:_FLOW_IDS_SHOWN])
            more = finding.count - min(len(finding.flow_ids), _FLOW_IDS_SHOWN)
            rest = f" and {count(more)} more" if more > 0 else ""
            self.wrap(f"flow_id {shown}{rest}", indent=2)

    def _bullets(self, title: str, sentences: tuple[str, ...]) -> None:
        if sentences:
            self.add(f"  {title}")
        for sentence in sentences:
            self.wrap(sentence, indent=4, label="-", label_width=2)

    def table(self, headings: list[str], rows: list[list[str]], notes: list[str]) -> None:
        """Align numbers below their headings, with a note after each row.

        Columns are given up until the lines fit: those without any number, then those on the right.
        """
        columns = [list(column) for column in zip(headings, *rows, strict=True)]
        while len(columns) > 1 and sum(2 + max(map(len, column)) for column in columns) > self.width:
            bare = [at for at, column in enumerate(columns) if at and set(column[1:]) <= {"", "0"}]
            del columns[bare[-1] if bare else -1]
        widths = [max(map(len, column)) for column in columns]
        for (name, *numbers), note in zip(zip(*columns, strict=True), ("", *notes), strict=True):
            cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
            self.add("  ".join(["", name.ljust(widths[0]), *cells]))
            if note:
                self.wrap(note, indent=4)

    def span(self, first_ns: int, last_ns: int) -> None:
        """Add from when to when, and how long that is."""
        first, last = (instant(ts_ns, epoch=self.epoch) for ts_ns in (first_ns, last_ns))
        self.wrap(f"{first} to {last} ({duration(last_ns - first_ns)})", indent=2)

    def heading(self, text: str, *, style: str = "heading") -> None:
        """Add a blank line and a heading."""
        self.add("")
        self.wrap(text, style=style)

    def wrap(self, text: str, *, indent: int = 0, label: str = "", label_width: int = _LABEL, style: str = "") -> None:
        """Add a paragraph, indented, with `label` in front of its first line, or above it where it is too long."""
        label = printable(label)
        left = indent + (label_width if label else 0)
        if len(label) >= label_width:
            self.wrap(label, indent=indent)
            label = ""
        front = " " * indent + label
        text = _UNIT.sub(_NO_BREAK, printable(text))
        for line in wrap(text, self.width - left) or [""]:
            self.add(f"{front:{left}}{self._paint(line.replace(_NO_BREAK, ' '), style)}".rstrip())
            front = ""

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{_SGR[style]}m{text}\x1b[0m" if self._color and style else text

    def add(self, line: str) -> None:
        """Add a line as it stands."""
        self._lines.append(line)
