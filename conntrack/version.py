"""The version: here and nowhere else. Read by the build (pyproject.toml), the command and whoever exports a file.

Looking it up among the installed distributions would take a third of the time of `ctrack --version`.
"""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
