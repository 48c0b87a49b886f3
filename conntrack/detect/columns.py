"""Columns of FLOW_DTYPE rows in the shape that counting needs: keys as words, unknown times out of the way, keys as
text.

Knows the layout of a row and nothing of what is right or wrong with a connection.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from conntrack.addresses import endpoint_text, ip_text

__all__ = ["FAR_NS", "Side", "ns_of", "words_endpoint", "words_ip"]

Side = Literal["client", "server"]

FAR_NS = 2**63
"""Stands for "has not happened" where times are compared: after every time that int64 can hold."""


def ns_of(seconds: float) -> int:
    """Return a duration in nanoseconds."""
    return round(seconds * 1e9)


def words_ip(high: np.uint64, low: np.uint64, version: int) -> str:
    """Return the address that two words hold, as text."""
    return ip_text(high.tobytes() + low.tobytes(), version)


def words_endpoint(words: np.ndarray) -> str:
    """Return the endpoint that three words hold, as text: "ip:port"."""
    version, port = divmod(int(words[2]), 1 << 16)
    return endpoint_text(words[0].tobytes() + words[1].tobytes(), version, port)
