"""The options of commands that find faults: --threshold NAME=VALUE, and --fail-on. Knows no detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from conntrack.detect.finding import Finding

__all__ = ["SEVERITIES", "fail_on_option", "set_thresholds", "threshold_option", "worst_of"]

SEVERITIES = ("info", "warning", "critical")  # detect.finding.SEVERITIES, which needs numpy; a test compares them

_Options = TypeVar("_Options")
_Command = TypeVar("_Command", bound=Callable[..., Any])

fail_on_option = click.option(
    "--fail-on", type=click.Choice(SEVERITIES), help="Exit with 1 if a finding is at least this bad."
)


def threshold_option(example: str) -> Callable[[_Command], _Command]:
    """Return the option --threshold, with `example` in its help."""
    return click.option(
        "--threshold",
        "thresholds",
        metavar="NAME=VALUE",
        multiple=True,
        help=f"Set a threshold of the detectors, e.g. {example}; may be repeated.",
    )


def set_thresholds(options: type[_Options], thresholds: tuple[str, ...]) -> _Options:
    """Return `options`, a dataclass of ints and floats, with `thresholds` set; every field of it can be.

    Raises:
        click.UsageError: no such field, or no such number.
    """
    kinds: dict[str, Any] = {field.name: field.type for field in fields(options)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for given in thresholds:
        name, _, value = given.partition("=")
        if name not in kinds:
            close = get_close_matches(name, kinds, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(kinds)}"
            raise click.UsageError(f"--threshold: no '{name}'; {hint}")
        try:
            values[name] = int(value) if kinds[name] == "int" else float(value)
        except ValueError:
            raise click.UsageError(f"--threshold: {name} takes a number, not '{value}'") from None
    return options(**values)


def worst_of(findings: Iterable[Finding], level: str) -> bool:
    """Return whether one of `findings` is at least as bad as `level`."""
    return any(SEVERITIES.index(finding.severity) >= SEVERITIES.index(level) for finding in findings)
