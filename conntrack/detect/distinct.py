"""How many distinct values each group has: exact up to a limit, then a HyperLogLog of Apache DataSketches.

A sketch takes 16 KB a group whatever the number of values, and its estimate is taken from the registers alone
(`_estimate`): fed in any order, in any split, or merged, the answer is the same. To keep up with a flood only every
16th value goes into it (chosen by the value's own hash, so always the same ones), which costs no precision that it had.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.keys import hash_words
from conntrack.detect.counting import NO_GROUP

__all__ = ["Distinct"]

_SKETCH_BITS = 14  # of HyperLogLog: 2**14 registers, relative error 1.04 / sqrt(2**14) = 0.8 %
_SHARE = 16
_LEAST = 256  # exact below this whatever the limit: a smaller sketch sample would say nothing


class Distinct:
    """Distinct values (hashes of 64 bits) by group.

    Args:
        exact: values of a group that are kept; a group with more is estimated, to about 2 %.
        limit: values kept of all groups; past it `exact` is halved, and so on down to 256.
    """

    def __init__(self, exact: int, limit: int = 1 << 21) -> None:
        self._exact = exact
        self._limit = limit
        self._groups = np.empty(0, np.int64)
        self._values = np.empty(0, np.uint64)
        self._new: list[tuple[np.ndarray, np.ndarray]] = []
        self._new_rows = 0
        self._sketches: dict[int, Any] = {}

    def add(self, groups: np.ndarray, values: np.ndarray) -> None:
        """Take in values (uint64 hashes, shape (n,)) of groups (int64, shape (n,), none negative)."""
        if len(groups) == 0:
            return
        self._new.append((groups.copy(), values.copy()))
        self._new_rows += len(groups)
        if self._new_rows > max(self._limit // 16, len(self._groups) // 2):
            self._settle()

    def merge(self, other: Distinct, groups: np.ndarray) -> None:
        """Take in what `other` was fed; `groups` turns its groups into ours (NO_GROUP drops them)."""
        self._exact = min(self._exact, other._exact)
        for group, sketch in other._sketches.items():
            number = int(groups[group])
            if number != NO_GROUP:
                self._sketches[number] = _merged(self._sketches.get(number), sketch)
        self._new.append((np.empty(0, np.int64), np.empty(0, np.uint64)))  # limits may bind where nothing is new
        for theirs, values in [(other._groups, other._values), *other._new]:
            if len(theirs):
                mine = groups[theirs]
                self.add(mine[mine >= 0], values[mine >= 0])

    def count(self, group: int) -> tuple[int, str]:
        """Return how many distinct values the group had, and how that is known.

        That is "exact"; "HyperLogLog" for an estimate; "at least" where the sketch library is not installed.
        """
        self._settle()
        if group in self._sketches:
            sketch = self._sketches[group]
            if isinstance(sketch, int):
                return sketch, "at least"
            return round(_estimate(sketch) * _SHARE), "HyperLogLog"
        first, last = np.searchsorted(self._groups, [group, group + 1])
        return int(last - first), "exact"

    def _settle(self) -> None:
        if not self._new:
            return
        groups = np.concatenate([part[0] for part in self._new])
        values = np.concatenate([part[1] for part in self._new])
        self._new, self._new_rows = [], 0
        groups, values = np.concatenate([self._groups, groups]), np.concatenate([self._values, values])
        if self._sketches:
            sketched = np.isin(groups, list(self._sketches))
            self._sketch(groups[sketched], values[sketched])
            groups, values = groups[~sketched], values[~sketched]
        order = np.lexsort((values, groups))
        groups, values = groups[order], values[order]
        if len(groups):
            new = np.concatenate(([True], (groups[1:] != groups[:-1]) | (values[1:] != values[:-1])))
            groups, values = groups[new], values[new]
        self._groups, self._values = groups, values
        while True:
            self._sketch_large()
            # Sketched groups count as full ones: so a part never has more than the whole, whichever came first.
            if len(self._groups) + len(self._sketches) * self._exact <= self._limit or self._exact <= _LEAST:
                break
            self._exact = max(_LEAST, self._exact // 2)

    def _sketch_large(self) -> None:
        names, starts, counts = np.unique(self._groups, return_index=True, return_counts=True)
        large = counts > self._exact
        if not large.any():
            return
        for group, start, count in zip(names[large], starts[large], counts[large], strict=True):
            self._sketches[int(group)] = _new_sketch(self._exact)
            self._sketch(np.full(count, group), self._values[start : start + count])
        kept = ~np.isin(self._groups, names[large])
        self._groups, self._values = self._groups[kept], self._values[kept]

    def _sketch(self, groups: np.ndarray, values: np.ndarray) -> None:
        chosen = np.flatnonzero(hash_words(values[:, None]) % np.uint64(_SHARE) == 0)
        for group, value in zip(groups[chosen].tolist(), values[chosen].tolist(), strict=True):
            sketch = self._sketches[group]
            if not isinstance(sketch, int):
                sketch.update(value)

    def __getstate__(self) -> dict[str, Any]:
        """Sketches travel between processes as the bytes that their library defines."""
        self._settle()
        sketches = {
            group: sketch if isinstance(sketch, int) else sketch.serialize_compact()
            for group, sketch in self._sketches.items()
        }
        return {**self.__dict__, "_sketches": sketches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._sketches = {
            group: sketch if isinstance(sketch, int) else _hll().hll_sketch.deserialize(sketch)
            for group, sketch in state["_sketches"].items()
        }


def _hll() -> Any:
    import datasketches

    return datasketches


def _new_sketch(exact: int) -> Any:
    """Return an empty sketch; or, where the library has no wheel (CPython 3.14), how many there are at least."""
    try:
        library = _hll()
    except ImportError:
        return exact + 1
    return library.hll_sketch(_SKETCH_BITS, library.tgt_hll_type.HLL_8)


def _estimate(sketch: Any) -> float:
    """Return what the registers say. A sketch that was only ever updated would answer from the order of its updates
    (its HIP estimator, a little better); one that was merged cannot, so it is merged with itself."""
    union = _hll().hll_union(_SKETCH_BITS)
    union.update(sketch)
    union.update(sketch)
    return float(union.get_estimate())


def _merged(mine: Any, other: Any) -> Any:
    if isinstance(mine, int) or (isinstance(other, int) and mine is not None):
        return mine
    if isinstance(other, int):
        return other
    library = _hll()
    if mine is None:  # a copy: both are fed on
        return library.hll_sketch.deserialize(other.serialize_compact())
    union = library.hll_union(_SKETCH_BITS)
    union.update(mine)
    union.update(other)
    return union.get_result(library.tgt_hll_type.HLL_8)
