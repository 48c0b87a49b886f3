"""Segments in parts: the part's number is the same from both ends, packed segments come back, clocks agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.clock import Clock
from conntrack.core.pack import Packer
from conntrack.core.shards import scatter, shard_of
from conntrack.tracker import Tracker

KEY = np.arange(1, 5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
SIZE = SEGMENT_DTYPE.itemsize


def arbitrary(n: int, seed: int, *, fixed: tuple[str, ...] = ()) -> np.ndarray:
    rows = np.frombuffer(np.random.default_rng(seed).bytes(n * SIZE), SEGMENT_DTYPE).copy()
    rows["pad0"] = 0
    for name in fixed:
        rows[name] = rows[name][0]
    return rows


def numbers(rows: np.ndarray, shards: int, key: np.ndarray = KEY) -> np.ndarray:
    out = np.empty(len(rows), np.uint16)
    shard_of(rows, shards, key, out)
    return out


class TestShardOf:
    def test_both_directions_are_one_part(self) -> None:
        rows = arbitrary(5000, 1)
        back = rows.copy()
        for one, other in (("src_ip", "dst_ip"), ("src_port", "dst_port")):
            back[one], back[other] = rows[other], rows[one]
        assert (numbers(rows, 997) == numbers(back, 997)).all()

    def test_only_addresses_and_ports_count(self) -> None:
        rows = arbitrary(1000, 2, fixed=("src_ip", "dst_ip", "src_port", "dst_port"))
        assert len(np.unique(numbers(rows, 1000))) == 1

    @pytest.mark.parametrize("shards", [1, 2, 8, 1000, 65536])
    def test_parts_are_about_equal(self, shards: int) -> None:
        rows = arbitrary(40_000, 3, fixed=("dst_ip", "dst_port"))
        counts = np.bincount(numbers(rows, shards), minlength=shards)
        assert len(counts) == shards
        mean = len(rows) / shards
        assert counts.max() <= mean + 8 * mean**0.5 + 8

    def test_the_key_decides(self) -> None:
        rows = arbitrary(1000, 4)
        assert (numbers(rows, 64) != numbers(rows, 64, KEY[::-1].copy())).sum() > 900

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="parts"):
            numbers(arbitrary(3, 5), 0)
        with pytest.raises(TypeError):
            shard_of(np.zeros(3), 4, KEY, np.empty(3, np.uint16))
        with pytest.raises(ValueError, match="4 words"):
            numbers(arbitrary(3, 5), 4, KEY[:3])


@pytest.mark.parametrize("room", [1, 3, 50, 5000])
def test_scattered_segments_are_each_parts_own_in_order(room: int) -> None:
    rows = arbitrary(3000, 6)
    parts, filled = np.empty((7, room), SEGMENT_DTYPE), np.zeros(7, np.uint32)
    got: list[list[bytes]] = [[] for _ in range(7)]
    begin = 0
    while begin < len(rows):
        taken, full = scatter(rows[begin:], parts, filled, KEY)
        begin += taken
        if full < 7:
            got[full] += [row.tobytes() for row in parts[full]]
            filled[full] = 0
    for shard in range(7):
        got[shard] += [row.tobytes() for row in parts[shard, : filled[shard]]]
    of = numbers(rows, 7)
    assert got == [[row.tobytes() for row in rows[of == shard]] for shard in range(7)]


def test_the_clock_goes_on_with_what_is_taken() -> None:
    rows = arbitrary(3000, 6)
    rows["ts_ns"] >>= 2
    parts, filled = np.empty((7, 200), SEGMENT_DTYPE), np.zeros(7, np.uint32)
    clock, other = Clock(), Clock()
    taken, full = scatter(rows, parts, filled, KEY, clock=clock)
    assert full < 7 and taken < len(rows)
    other.advance(rows[:taken])
    assert clock.state == other.state


def test_parts_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="segments are"):
        scatter(arbitrary(1, 6), np.empty((7, 96), np.uint8), np.zeros(7, np.uint32), KEY)


def test_parts_may_lie_in_any_rows() -> None:
    rows = arbitrary(300, 6)
    plain, filled = np.zeros((7, 300), SEGMENT_DTYPE), np.zeros(7, np.uint32)
    assert scatter(rows, plain, filled, KEY) == (300, 7)
    moved, places = np.zeros((9, 300), SEGMENT_DTYPE), np.array([8, 3, 0, 5, 1, 2, 7], np.uint32)
    again = np.zeros(7, np.uint32)
    assert scatter(rows, moved, again, KEY, places) == (300, 7)
    assert again.tolist() == filled.tolist() and moved[places].tobytes() == plain.tobytes()
    assert not moved[[4, 6]].view(np.uint8).any()


@pytest.mark.parametrize(
    ("places", "said"),
    [([0, 1, 2, 3, 4, 5, 9], "row 9 of 9"), ([0, 1], "2 places for 7 parts"), (None, "counts for 6")],
)
def test_rows_that_there_are_not_are_refused(places: list[int] | None, said: str) -> None:
    room = np.zeros((9 if places else 6, 3), SEGMENT_DTYPE)
    with pytest.raises(ValueError, match=said):
        scatter(
            arbitrary(1, 6), room, np.zeros(7, np.uint32), KEY, None if places is None else np.array(places, np.uint32)
        )


class TestPack:
    def test_the_columns_are_the_fields(self) -> None:
        """Every byte of a segment that is not padding comes back: set each alone."""
        packer, back = Packer(2), np.zeros(2, SEGMENT_DTYPE)
        for at in range(SIZE - 2):
            rows = np.zeros(2, SEGMENT_DTYPE)
            rows.view(np.uint8)[SIZE + at] = 0xA5
            data = packer.pack(rows).copy()
            assert packer.unpack(data, back) == 2 and back.tobytes() == rows.tobytes()

    @settings(max_examples=100, deadline=None)
    @given(
        raw=hnp.arrays(np.uint8, st.integers(1, 60).map(lambda n: n * SIZE)),
        fixed=st.sets(st.sampled_from([name for name in SEGMENT_DTYPE.names or () if name != "pad0"])),
    )
    def test_what_was_packed_comes_back(self, raw: np.ndarray, fixed: set[str]) -> None:
        rows = raw.view(SEGMENT_DTYPE).copy()
        rows["pad0"] = 0
        for name in fixed:
            rows[name] = rows[name][0]
        packer, back = Packer(60), np.zeros(60, SEGMENT_DTYPE)
        data = packer.pack(rows).copy()
        assert packer.unpack(data, back) == len(rows)
        assert back[: len(rows)].tobytes() == rows.tobytes()

    @pytest.mark.parametrize("n", [1, 7, 8, 63, 64, 65, 71, 72, 127, 128, 129, 130, 137, 1000])
    def test_no_column_touches_the_next(self, n: int) -> None:
        """Values are moved eight bytes at a time, whatever their width, and some rows of all columns, then the next."""
        rng = np.random.default_rng(n)
        packer, back = Packer(1000), np.zeros(n, SEGMENT_DTYPE)
        for _ in range(20):
            rows = arbitrary(n, int(rng.integers(1 << 32)))
            octets = rows.view(np.uint8).reshape(n, SIZE)
            fixed = rng.random(SIZE) < rng.random()
            octets[:, fixed] = octets[0, fixed]
            assert packer.unpack(packer.pack(rows).copy(), back) == n
            assert back.tobytes() == rows.tobytes()

    def test_equal_values_take_no_room(self) -> None:
        rows = np.repeat(arbitrary(1, 7), 1000)
        assert len(Packer(1000).pack(rows)) < 400

    @settings(max_examples=200, deadline=None)
    @given(at=st.integers(0, 232), value=st.integers(0, 255), cut=st.integers(0, 400))
    def test_damaged_blocks_are_refused_or_read(self, at: int, value: int, cut: int) -> None:
        packer, back = Packer(50), np.zeros(50, SEGMENT_DTYPE)
        data = packer.pack(arbitrary(40, 8)).copy()
        data[at] = value
        data = data[: len(data) - cut].copy()
        try:
            assert packer.unpack(data, back) <= 50
        except ValueError as error:
            assert "block" in str(error) or "column" in str(error)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(10**10), 10**10) | st.integers(-(2**61), 2**61), min_size=1, max_size=50))
def test_the_clock_is_the_trackers(times: list[int]) -> None:
    rows = arbitrary(len(times), 9, fixed=("src_ip", "dst_ip"))
    rows["ts_ns"], rows["ip_version"] = times, 4
    tracker, clock = Tracker(key=KEY), Clock()
    for i in range(len(rows)):
        tracker.process(rows[i : i + 1])
        clock.advance(rows[i : i + 1])
        assert clock.now_ns == tracker.now_ns
    other = Clock()
    other.advance(rows[: len(rows) // 2])
    third = Clock()
    third.state = other.state
    third.advance(rows[len(rows) // 2 :])
    assert third.state == clock.state and third.settled_ns == clock.settled_ns
