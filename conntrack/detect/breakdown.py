"""Who the ends in each state were: the series of `series.py`, service by service and host by host, second by second.

A service's ends are the servers' ones, a host's those of its services and of its own connections. Exact at every step,
like the whole. What is kept of a group are the instants at which its ends entered and left states, to the second, or
more coarsely once 2 million of them differ. Services are those that have a number; hosts of clients are counted as long
as there are no more than 65,536: those whose ends got past a handshake on one account, those whose
ends never did (forged addresses, perhaps) on another, and an account that is full is given up as a whole, so that what
is left does not depend on order. What is not in a group that is told is in the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conntrack.core.keys import endpoint_words, hash_words
from conntrack.core.spans import rows_of, span_keys
from conntrack.core.survey import Trait
from conntrack.detect.batch import Page
from conntrack.detect.columns import FAR_NS, words_endpoint, words_ip
from conntrack.detect.counting import NO_GROUP, KeyIndex, Tally, ticks_of
from conntrack.detect.limits import WHOLE, Limits
from conntrack.states import TcpState

__all__ = ["Breakdown"]

_STATES = len(TcpState)
_Events = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # groups, ticks, states, changes
_Named = list[tuple[str, np.ndarray]]


class _Spans:
    """When ends of groups entered and left states."""

    def __init__(self, ladder_ns: tuple[int, ...], limits: Limits) -> None:
        self._begun, self._over = Tally(ladder_ns, limits.cells), Tally(ladder_ns, limits.cells)

    def add(self, spans: np.ndarray, groups: np.ndarray, step_ns: int) -> None:
        """Take in spans, for the groups of their rows: see core.spans.span_keys."""
        self.add_keys(*span_keys(spans, groups, FAR_NS // step_ns), step_ns)

    def add_keys(self, begun: np.ndarray, over: np.ndarray, step_ns: int) -> None:
        """Take in when ends of groups entered and left states, as keys of Tallies in ticks of `step_ns`."""
        self._begun.add_keys(begun, None, step_ns)
        self._over.add_keys(over, None, step_ns)

    def merge(self, other: _Spans, groups: np.ndarray) -> None:
        """Take in what `other` was fed; `groups` turns its groups into ours."""
        self._begun.merge(other._begun, groups)
        self._over.merge(other._over, groups)

    def step_ns(self, least_ns: int) -> int:
        """Return the step of the grid, `least_ns` at least."""
        return max(self._begun.step_ns, self._over.step_ns, least_ns)

    def events(self, step_ns: int) -> _Events:
        """Return (groups, ticks, states, changes) in steps of `step_ns`, in no order."""
        parts = []
        for tally, sign in ((self._begun, 1), (self._over, -1)):
            groups, ticks, states, counts = tally.table()
            parts.append((groups, ticks_of(ticks, step_ns // tally.step_ns), states, sign * counts))
        groups, ticks, states, changes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return groups, ticks, states, changes


class _Account:
    """Hosts of clients, numbered, with their spans; or nothing once there were too many."""

    def __init__(self, ladder_ns: tuple[int, ...], limits: Limits) -> None:
        self.given_up = False
        self._ladder_ns, self._limits = ladder_ns, limits
        self._begin()

    def _begin(self) -> None:
        self.index = KeyIndex(3, limit=self._limits.hosts)
        self.spans = _Spans(self._ladder_ns, self._limits)

    def add(self, flows: np.ndarray, spans: np.ndarray, rows: np.ndarray, step_ns: int) -> None:
        """Take in those of `spans` (of clients' ends) that are of `rows` of `flows`."""
        if self.given_up or not len(rows):
            return
        words = endpoint_words(flows, client=True, picks=rows)
        words[:, 2] &= ~np.uint64(0xFFFF)
        groups = np.full(len(flows), NO_GROUP)
        groups[rows] = self.index.intern(words)
        if self.index.overflow_rows:
            self._give_up()
        else:
            self.spans.add(spans, groups, step_ns)

    def merge(self, other: _Account) -> None:
        """Take in what `other` was fed."""
        if self.given_up or other.given_up:
            self._give_up()
            return
        groups = self.index.merge(other.index)
        if self.index.overflow_rows:
            self._give_up()
        else:
            self.spans.merge(other.spans, groups)

    def _give_up(self) -> None:
        self.given_up = True
        self._begin()


class Breakdown:
    """Ends by state over time for each service and each host; incremental and mergeable.

    Args:
        ladder_ns: steps of the grid, each a multiple of the one before.
        limits: how many instants and hosts are kept.
    """

    def __init__(self, ladder_ns: tuple[int, ...], limits: Limits = WHOLE) -> None:
        self._services = _Spans(ladder_ns, limits)
        self._proven, self._unproven = _Account(ladder_ns, limits), _Account(ladder_ns, limits)

    @property
    def wanted(self) -> tuple[bool, bool]:
        """Which clients' hosts are still counted: those that got past a handshake, and those that never did."""
        return not self._proven.given_up, not self._unproven.given_up

    def add(
        self, page: Page, start: int, begun: np.ndarray, over: np.ndarray, clients: np.ndarray, step_ns: int
    ) -> None:
        """Take in the rows of a page from `start` on, in ticks of `step_ns`, as core.spans.count_states writes them.

        Args:
            begun, over: when servers' ends entered and left states, keys of Tallies by service.
            clients: spans of clients' ends (SPAN_DTYPE), of those that are wanted.
        """
        self._services.add_keys(begun, over, step_ns)
        rows = rows_of(clients)
        unproven = (page.traits[start:][rows] & np.uint32(Trait.NEVER_OPEN)) != 0
        for account, chosen in ((self._proven, ~unproven), (self._unproven, unproven)):
            account.add(page.rows[start:], clients, rows[chosen], step_ns)

    def merge(self, other: Breakdown, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._services.merge(other._services, services)
        self._proven.merge(other._proven)
        self._unproven.merge(other._unproven)

    @property
    def told(self) -> dict[str, bool]:
        """Which hosts are counted: clients that got past a handshake, and those that never did."""
        return dict(zip(("clients", "unproven_clients"), self.wanted, strict=True))

    def step_ns(self, least_ns: int) -> int:
        """Return the step at which groups can be told, `least_ns` at least."""
        parts = (self._services, self._proven.spans, self._unproven.spans)
        return max(part.step_ns(least_ns) for part in parts)

    def top(self, services: np.ndarray, most: int, ticks: np.ndarray, step_ns: int) -> tuple[_Named, _Named]:
        """Return the services and the hosts with the most ends at once (then by name), and the values of each.

        Args:
            services: endpoint words by number, uint64, shape (k, 3).
            most: how many at most.
            ticks: the instants asked for, in steps of `step_ns`, ascending and one apart.
            step_ns: a multiple of the grid's.

        Returns:
            (name, values) of services, and of hosts: those of its services with those of its own connections. Values
            are int64 of shape (11, len(ticks)): by state.
        """
        of_services = self._services.events(step_ns)
        named = _top(of_services, lambda group: words_endpoint(services[group]), most, ticks)
        words = services.copy()
        words[:, 2] &= ~np.uint64(0xFFFF)
        keys, parts = [words], [of_services]
        for account in (self._proven, self._unproven):
            groups, at, states, changes = account.spans.events(step_ns)
            parts.append((groups + sum(len(each) for each in keys), at, states, changes))
            keys.append(account.index.keys)
        names = np.concatenate(keys)
        _, first, number = np.unique(hash_words(np.ascontiguousarray(names)), return_index=True, return_inverse=True)
        groups, at, states, changes = (np.concatenate(columns) for columns in zip(*parts, strict=True))

        def name(group: int) -> str:
            high, low, version = names[first[group]]
            return words_ip(high, low, int(version) >> 16)

        events = (number[groups] if len(groups) else groups, at, states, changes)
        return named, _top(events, name, most, ticks)


def _top(events: _Events, name: Callable[[int], str], most: int, ticks: np.ndarray) -> _Named:
    groups, at, states, changes = events
    if not len(groups) or not len(ticks):
        return []
    # Instants before the first one asked for are what is there then; those after the last do not count.
    at = np.maximum(at - ticks[0], 0)
    kept = at < len(ticks)
    groups, at, states, changes = groups[kept], at[kept], states[kept], changes[kept]
    peaks = _peaks(groups, at, changes, len(ticks))
    enough = np.partition(peaks, -most)[-most] if len(peaks) > most else 1
    ranked = sorted(
        (-int(peaks[group]), name(group), group) for group in np.flatnonzero(peaks >= max(1, enough)).tolist()
    )
    told = []
    for _, text, group in ranked[:most]:
        part = groups == group
        values = np.zeros((_STATES, len(ticks)), np.int64)
        np.add.at(values, (states[part], at[part]), changes[part])
        told.append((text, np.cumsum(values, axis=1)))
    return told


def _peaks(groups: np.ndarray, at: np.ndarray, changes: np.ndarray, width: int) -> np.ndarray:
    """Return the most that is there at once of each group, by its number: int64, shape (highest number + 1,).

    Args:
        groups, at, changes: what is added of which group at which of the instants 0 to width - 1; int64, shape (n,).
        width: how many instants there are.
    """
    count = int(groups.max(initial=-1)) + 1
    instants = groups * width + at  # fewer than 2**37
    if count * width <= len(groups):  # as many instants as changes at most: a place for each, instead of an order
        levels = np.bincount(instants, changes, count * width).reshape(count, width)
        most: np.ndarray = np.cumsum(levels, axis=1, out=levels).max(axis=1, initial=0).astype(np.int64)
        return most
    order = np.argsort(instants)
    instants, changes = instants[order], changes[order]
    groups = instants // width
    levels = np.cumsum(changes)
    last_of_instant = np.concatenate((instants[1:] != instants[:-1], [True]))
    starts = np.flatnonzero(np.concatenate(([True], groups[1:] != groups[:-1])))
    bases = np.repeat(levels[starts] - changes[starts], np.diff(starts, append=len(groups)))
    peaks = np.zeros(count, np.int64)
    peaks[groups[starts]] = np.maximum.reduceat(np.where(last_of_instant, levels - bases, 0), starts).clip(0)
    return peaks
