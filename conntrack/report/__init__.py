"""What was found, as words: a Report of plain data (model.py), and its two renderings (text.py, json.py).

Renderers are functions from a Report to a string; none imports another, all share format.py. Nothing here opens, prints
or asks the time. The formats are named here without importing them, so that the command line can offer them.
"""

from __future__ import annotations

__all__ = ["FORMATS", "SUFFIXES"]

FORMATS = ("text", "json")
SUFFIXES = {".txt": "text", ".json": "json"}
"""Suffix of an output file to its format."""
