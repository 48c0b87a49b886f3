"""How alike SYNs are: TTL, window, options and initial sequence number. Forged ones come from one program and show it.

Real clients differ in the hops they are away and in their systems; a generator of SYNs fills in the same header again
and again, while the addresses that it invents differ. Knows no detector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core import abi

__all__ = ["alike"]

_OPTIONS = ((abi.HAS_TIMESTAMP, "timestamps"), (abi.HAS_SACK_PERMITTED, "SACK"), (abi.HAS_FAST_OPEN, "fast open"))
# Of core.counts.Who.LOOK: name, lowest bit, bits.
_FIELDS = (("ttl", 0, 8), ("window", 8, 16), ("mss", 24, 16), ("window_scale", 40, 8), ("options", 48, 8))


def alike(packed: np.ndarray) -> dict[str, Any]:
    """Return the commonest value of each field with its share, of a sample of SYNs; {} where none was seen.

    `packed` is uint64 of shape (n, 2): LOOK and ISN of core.counts.Who.

    `{"ttl 64": 0.98, "window scale none": 1.0, ...}`; of the initial sequence number only the share of the commonest.
    """
    seen = packed[packed[:, 0] & np.uint64(0xFF) != 0]  # a TTL of 0 does not travel: no SYN was seen
    if len(seen) == 0:
        return {}
    told: dict[str, Any] = {}
    for name, shift, bits in _FIELDS:
        values, counts = np.unique((seen[:, 0] >> np.uint64(shift)) & np.uint64((1 << bits) - 1), return_counts=True)
        top = int(np.argmax(counts))
        told[_spelled(name, int(values[top]))] = round(float(counts[top] / len(seen)), 3)
    _, counts = np.unique(seen[:, 1], return_counts=True)
    told["isn"] = round(float(counts.max() / len(seen)), 3)
    return told


def _spelled(name: str, value: int) -> str:
    """Return a field of a SYN and its value, in words where a number stands for one."""
    if name == "options":
        words = [word for bit, word in _OPTIONS if value & bit]
        return f"options {' and '.join(words) or 'none'}"
    absent = (name == "mss" and value == 0) or (name == "window_scale" and value == 255)
    return f"{name.replace('_', ' ')} {'none' if absent else value}"
