"""Which connections a report shows one by one, where it cannot show all: bounded, in a stated order, while streaming.

Owns the signs of trouble and the order: those behind the findings, then the earliest of every kind of trouble, then the
longest. What is chosen depends on the connections alone, not on their order or on how they were split into batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from conntrack.core.abi import FLOW_DTYPE
from conntrack.core.signs import look
from conntrack.states import TcpState

__all__ = ["EACH_KIND", "MOST_ROWS", "ORDER", "SIGNS", "Chosen", "choose", "put_first", "signs_of"]

Rows = np.ndarray[Any, Any]

MOST_ROWS = 10_000
"""Connections chosen at most: as a page about 1 MB; a capture with fewer is there with all of them."""
EACH_KIND = 100
"""Connections of each kind of trouble, that is of each combination of SIGNS that occurs."""
ORDER = (
    "first those behind the findings, "
    f"then the earliest {EACH_KIND} of every combination of signs of trouble, then the longest"
)

SIGNS = (
    "unanswered", "refused", "half open", "reset", "timed out", "close wait", "retransmits", "zero window",
    "accept queue", "capture loss",
)  # fmt: skip
"""By bit. What each means is in glossary.py."""


def signs_of(flows: Rows) -> Rows:
    """Return the signs of trouble of `flows` (FLOW_DTYPE, shape (n,)) as bits, in the order of SIGNS: uint16, (n,)."""
    signs = np.empty(len(flows), np.uint16)
    look(flows, TcpState.CLOSE_WAIT, np.zeros(1 << len(SIGNS), np.uint64), 0, 0, signs, np.empty(len(flows), np.int64))
    return signs


class Chosen:
    """Keeps the connections worth showing of all that it is fed; about 10 MB at most.

    Args:
        most: connections in the result at most.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._longest: list[Rows] = []
        self._kept = 0
        self._least: tuple[int, int] | None = None  # duration and flow_id of the shortest kept, once there are enough
        self._kinds: dict[int, Rows] = {}
        self._bars = np.full(1 << len(SIGNS), np.iinfo(np.uint64).max)  # by kind: a flow_id as high is not kept
        self._bars[0] = 0  # no sign, no kind

    def feed(self, flows: Rows) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,)), each once, when it is final."""
        if len(flows) == 0:
            return
        signs, candidates = np.empty(len(flows), np.uint16), np.empty(len(flows), np.int64)
        least = self._least or (np.iinfo(np.int64).min, np.iinfo(np.uint64).max)
        rows = candidates[: look(flows, TcpState.CLOSE_WAIT, self._bars, *least, signs, candidates)]
        if not len(rows):
            return
        self._feed_longest(flows, rows)
        kinds, ids = signs[rows], flows["flow_id"][rows]
        low = ids < self._bars[kinds]
        for kind in np.flatnonzero(np.bincount(kinds[low])).tolist():
            self._feed_kind(kind, flows, rows[low & (kinds == kind)])

    def merge(self, other: Chosen) -> None:
        """Take in what `other` was fed: what it kept has all that could be chosen of the whole."""
        for kind, flows in other._kinds.items():
            self._feed_kind(kind, flows, np.arange(len(flows)))
        for flows in other._longest:
            self._feed_longest(flows, np.arange(len(flows)))

    def _feed_longest(self, flows: Rows, rows: Rows) -> None:
        if self._least is not None:
            duration, flow_id = self._least
            durations = flows["last_ts_ns"][rows] - flows["first_ts_ns"][rows]
            rows = rows[(durations > duration) | ((durations == duration) & (flows["flow_id"][rows] < flow_id))]
        if len(rows):
            self._longest.append(_at(flows, rows))
            self._kept += len(rows)
            if self._kept > 2 * self._most:
                rows = _by_length(_joined(self._longest), self._most)
                self._longest, self._kept = [rows], len(rows)
                self._least = (int(rows["last_ts_ns"][-1] - rows["first_ts_ns"][-1]), int(rows["flow_id"][-1]))

    def _feed_kind(self, kind: int, flows: Rows, rows: Rows) -> None:
        kept = [self._kinds[kind]] if kind in self._kinds else []
        best = _earliest(_joined([*kept, _at(flows, rows[np.argsort(flows["flow_id"][rows])[:EACH_KIND]])]))
        self._kinds[kind] = best
        if len(best) == EACH_KIND:
            self._bars[kind] = best["flow_id"][-1]

    def result(self) -> Rows:
        """Return what was chosen, in order, each once: FLOW_DTYPE, shape (n,), n at most `most`."""
        by_signs = sorted(self._kinds.items(), key=lambda item: (-item[0].bit_count(), item[0]))
        longest = _by_length(_joined([np.empty(0, FLOW_DTYPE), *self._longest]), self._most)
        return _once(_joined([*(kind for _, kind in by_signs), longest]))[: self._most]


def choose(flows: Rows) -> Rows:
    """Return the connections to show of `flows`, which are all of them; as Chosen, for who has them at once."""
    chosen = Chosen()
    chosen.feed(flows)
    return chosen.result()


def put_first(chosen: Rows, flow_ids: Iterable[int], others: Rows | None = None) -> Rows:
    """Return `chosen` with the connections `flow_ids` before all others, in this order, as far as they are known.

    Args:
        chosen: FLOW_DTYPE, shape (n,).
        others: connections to find them in that may not be among the chosen: FLOW_DTYPE, shape (m,).
    """
    rows = chosen if others is None else _joined([others, chosen])
    order = np.argsort(rows["flow_id"], kind="stable")
    wanted = np.fromiter(flow_ids, np.uint64)
    place = np.minimum(np.searchsorted(rows["flow_id"], wanted, sorter=order), max(len(rows) - 1, 0))
    found = order[place[rows["flow_id"][order[place]] == wanted]] if len(rows) else order
    return _once(_joined([_at(rows, found), chosen]))[:MOST_ROWS]


def _once(rows: Rows) -> Rows:
    """Return `rows` in their order without those whose flow_id came before."""
    return _at(rows, np.sort(np.unique(rows["flow_id"], return_index=True)[1]))


def _earliest(rows: Rows) -> Rows:
    return _at(rows, np.argsort(rows["flow_id"])[:EACH_KIND])


def _by_length(rows: Rows, most: int) -> Rows:
    """Return the `most` longest of `rows`, the longest first, and the lowest flow_id among equals."""
    return _at(rows, np.lexsort((rows["flow_id"], rows["first_ts_ns"] - rows["last_ts_ns"]))[:most])


def _at(rows: Rows, chosen: Any) -> Rows:
    """Return `rows[chosen]`."""
    some: Rows = _octets(rows)[chosen].view(FLOW_DTYPE)
    return some


def _joined(parts: list[Rows]) -> Rows:
    return np.concatenate([_octets(part) for part in parts]).view(FLOW_DTYPE)


def _octets(rows: Rows) -> Rows:
    """Return `rows` seen as octets: numpy copies structs field by field."""
    return rows.view(f"V{FLOW_DTYPE.itemsize}")
