"""What was found, as words: a Report of plain data (model.py), and its renderings (text.py, json.py, html.py).

Renderers are functions from a Report to a string; none imports another, all share format.py. Nothing here opens, prints
or asks the time. The page is html.py (the values), page/ (markup, style, scripts), packed.py (its data), rungs.py (its
ladders), glossary.py (its help) and chosen.py (which connections it shows). The formats are named here without
importing them, so that the command line can offer them.
"""

from __future__ import annotations

__all__ = ["FORMATS", "STORY_FORMATS", "STORY_SUFFIXES", "SUFFIXES"]

STORY_FORMATS = ("text", "json")
STORY_SUFFIXES = {".txt": "text", ".json": "json"}
"""Of one connection's story (ladder.py). Suffix of an output file to its format."""
FORMATS = (*STORY_FORMATS, "html")
SUFFIXES = {**STORY_SUFFIXES, ".html": "html", ".htm": "html"}
"""Of a report."""
