"""Findings on a sheet of text: what, where, since when, how many, by which evidence, how sure it is, and what is next.

Knows the shape of a Finding and no kind of one. Shared by the reports of a capture and of a host.
"""

from __future__ import annotations

from collections.abc import Mapping

from conntrack.detect.finding import Finding
from conntrack.report.format import count, duration, evidence_text, instant, told
from conntrack.report.glossary import EVIDENCE, Term
from conntrack.report.sheet import Sheet

__all__ = ["add_findings"]

_FINDINGS_SHOWN = 10
_FLOW_IDS_SHOWN = 10
_LABEL = 24
"""Columns for the names of evidence."""


def add_findings(
    sheet: Sheet,
    findings: tuple[Finding, ...],
    *,
    epoch: bool,
    unweakened: str,
    meanings: Mapping[str, Term] = EVIDENCE,
) -> None:
    """Add the worst ones in full, and how many more there are.

    Args:
        sheet: where to.
        findings: the worst first.
        epoch: times in unix seconds instead of RFC 3339.
        unweakened: what is said of a finding that nothing speaks against.
        meanings: the glossary that has the names of evidence.
    """
    for number, finding in enumerate(findings[:_FINDINGS_SHOWN], 1):
        kind = finding.kind.replace("_", " ")
        sheet.heading(f"{number}. {finding.severity.upper()}  {kind}  {finding.subject}", style=finding.severity)
        length = duration(finding.last_ts_ns - finding.first_ts_ns)
        sheet.wrap(f"since {instant(finding.first_ts_ns, epoch=epoch)}", front="  ")
        sheet.wrap(f"until {instant(finding.last_ts_ns, epoch=epoch)} ({length})", front="  ")
        at_once = f", {count(finding.peak)} at the peak" if finding.peak > 1 else ""
        sheet.wrap(f"{count(finding.count, 'connection')}{at_once}", front="  ")
        evidence = [evidence_text(key, value, epoch=epoch, meanings=meanings) for key, value in told(finding.evidence)]
        sheet.table(["", ""], evidence, numbers=False, indent=4, widths=[_LABEL])
        _bullets(sheet, "How sure:", finding.caveats or (unweakened,))
        _bullets(sheet, "Next:", finding.next_steps)
        if finding.flow_ids:
            sheet.wrap(_flow_ids(finding), front="  ")
    if len(findings) > _FINDINGS_SHOWN:
        left = count(len(findings) - _FINDINGS_SHOWN, "more finding")
        sheet.heading(f"{left}, none worse: --format json has them", style="")


def _bullets(sheet: Sheet, title: str, sentences: tuple[str, ...]) -> None:
    if sentences:
        sheet.add(f"  {title}")
    for sentence in sentences:
        sheet.wrap(sentence, front="    - ")


def _flow_ids(finding: Finding) -> str:
    shown = ", ".join(str(flow_id) for flow_id in finding.flow_ids[:_FLOW_IDS_SHOWN])
    more = finding.count - min(len(finding.flow_ids), _FLOW_IDS_SHOWN)
    return f"flow_id {shown}{f' and {count(more)} more' if more > 0 else ''}"
