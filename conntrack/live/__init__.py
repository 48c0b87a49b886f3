"""A capture that goes on: what holds now, what changed, and at the end the report of all of it.

Owns when it is looked, over which connections, and what a change of a finding is. Knows no command and no terminal:
`Session` is fed segments and asked for a `Look` (session.py); `Window` has the connections of the last minutes
(window.py); `Changes` turns findings at one look and the next into events (changes.py); `Intake` takes the segments
from a capture in a thread, so that a look costs no packet (intake.py).
"""

from __future__ import annotations

from conntrack.live.changes import Change, Changes
from conntrack.live.intake import Intake
from conntrack.live.session import Look, Session
from conntrack.live.window import Window

__all__ = ["Change", "Changes", "Intake", "Look", "Session", "Window"]
