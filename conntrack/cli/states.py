"""`ctrack states`: the state machine as it is used, every rule with its reason and source."""

from __future__ import annotations

import click

from conntrack.cli.errors import ExitCode, debug_option
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option

__all__ = ["command"]

_FORMATS = ("text", "markdown")
_SUFFIXES = {".txt": "text", ".md": "markdown"}

_EVENTS = {
    "SYN": "a SYN that opens",
    "SYN_ACK": "a SYN+ACK that answers the peer's SYN",
    "ACK_OF_SYN": "a segment that acknowledges the peer's SYN",
    "DATA": "payload or a FIN: its sender is past the handshake",
    "ACK_OF_FIN": "a segment that acknowledges the peer's FIN",
    "FIN": "a FIN; for its receiver when everything before it has arrived",
    "RST": "a reset; for its receiver when it is accepted (RFC 5961)",
    "SYN_ACK_AGAIN": "a SYN+ACK repeated after the client's ACK of it: the server dropped that ACK",
    "FIN_CROSSING": "a FIN that does not acknowledge the peer's, sent before: the two are crossing",
    "TIMEOUT": "the host's own timer of the state has run out",
}


@click.command("states", short_help="The state machine, with reasons and sources.", epilog=examples("states"))
@click.option(
    "--format", "format_", type=click.Choice(_FORMATS), help="The rules as text (default), or the table as Markdown."
)
@output_option
@debug_option
def command(format_: str | None, output_path: str | None) -> int:
    """Print the state machine: what each segment does to its sender and to its receiver, why, and by which source."""
    chosen = choose_format(format_, output_path, _SUFFIXES, terminal="text", piped="text")

    from conntrack.transitions import render_markdown

    with Output(output_path) as output:
        output.write_text(render_markdown() if chosen == "markdown" else _text(output.width, color=output.color))
    return ExitCode.DONE


def _text(width: int, *, color: bool) -> str:
    """Return every rule that moves a state, with its reason and source, and what the events are."""
    from conntrack.report.sheet import LEAST_WIDTH, Sheet
    from conntrack.states import Role, TcpState
    from conntrack.transitions import moves

    sheet = Sheet(max(width, LEAST_WIDTH), color=color)
    for role, verb in ((Role.SENT, "sends"), (Role.RECEIVED, "receives")):
        sheet.wrap(f"An endpoint that {verb}:", style="heading")
        rows = []
        for rule in moves():
            if rule.role == role:
                but = [state.name for state in TcpState if state not in rule.states]
                states = " but ".join(["any", *but]) if len(but) < 2 else ", ".join(s.name for s in rule.states)
                rows.append([rule.event.name, states, TcpState(rule.to).name, f"{rule.reason} [{rule.source}]"])
        sheet.table(["event", "from", "to", "why [source]"], rows, numbers=False, widths=[13, 13, 12])
        sheet.add()
    sheet.wrap("Events:", style="heading")
    sheet.table(["", ""], _EVENTS.items(), numbers=False, widths=[13])
    sheet.add()
    sheet.wrap("Sections are those of RFC 9293. An event that is not listed for a state leaves it as it is.")
    return sheet.text()
