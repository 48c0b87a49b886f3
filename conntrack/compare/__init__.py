"""The wire and the kernel held against each other: the sockets on which a capture and a snapshot of a host disagree.

Owns what a snapshot is and which forms of it are read (snapshot.py; ss.py, socket_lines.py and netfilter.py have a form
each), what the wire says at an instant (wire.py), which rows belong together and what is likely behind a disagreement
(sockets.py and reasons.py for a host's sockets, firewall.py for netfilter's entries). `compare` is the door
(comparison.py). Opens no capture and prints nothing.
"""

from __future__ import annotations

from conntrack.compare.comparison import compare
from conntrack.compare.model import Comparison, Disagreement, Snapshot
from conntrack.compare.snapshot import read_snapshot

__all__ = ["Comparison", "Disagreement", "Snapshot", "compare", "read_snapshot"]
