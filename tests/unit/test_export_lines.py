"""Values as the compiled lines write them, against the plain way of writing each; and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack.addresses import ip_text
from conntrack.core.abi import FLOW_DTYPE
from conntrack.core.lines import ADDRESS, COUNT, FLAGS, INTEGER, MICROSECONDS, TEXT, TIME, WORD, Lines
from conntrack.export.columns import COLUMNS
from conntrack.export.lines import kind_of, octets, texts
from conntrack.states import NO_TIME_NS
from conntrack.times import rfc3339, unix_seconds

BY_NAME = {column.name: column for column in COLUMNS}
TIMES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(1_763_000_000 * 10**9, 1_764_000_000 * 10**9))


def written(name: str, *, epoch: bool = False, json: bool = False, **fields: Any) -> list[str]:
    """One column as a line for each row, as the exporters have it made."""
    flows = np.zeros(len(next(iter(fields.values()))), FLOW_DTYPE)
    for field, values in fields.items():
        flows[field] = values
    column = BY_NAME[name]
    line = Lines(
        [(b"", kind_of(column, epoch=epoch), column.words)], b"\n", json=json, nothing=b"null" if json else b""
    )
    out = np.empty(len(flows) * line.most_bytes, np.uint8)
    size = line.write([column.values(flows)], flows["ip_version"], out)
    return out[:size].tobytes().decode("ascii").split("\n")[:-1]


def known(write: Callable[[int], str], unknown: str, values: list[int]) -> list[str]:
    return [unknown if value == NO_TIME_NS else write(value) for value in values]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 20_000), min_size=1))
def test_integers(values: list[int]) -> None:
    assert written("client_payload_bytes", client_payload_bytes=values) == [str(value) for value in values]


@given(st.lists(st.integers(0, 65_535), min_size=1))
def test_ports(values: list[int]) -> None:
    assert written("client_port", client_port=values) == [str(value) for value in values]


@given(st.lists(TIMES, min_size=1))
def test_times(values: list[int]) -> None:
    assert written("syn_ts", syn_ts_ns=values) == known(rfc3339, "", values)
    assert written("syn_ts", epoch=True, syn_ts_ns=values) == known(unix_seconds, "", values)
    quoted = known(lambda ts_ns: f'"{rfc3339(ts_ns)}"', "null", values)
    assert written("syn_ts", json=True, syn_ts_ns=values) == quoted
    assert written("syn_ts", json=True, epoch=True, syn_ts_ns=values) == known(unix_seconds, "null", values)


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.sampled_from((4, 6))), min_size=1))
def test_addresses(ends: list[tuple[bytes, int]]) -> None:
    packed = np.frombuffer(b"".join(raw for raw, _ in ends), np.uint8).reshape(-1, 16)
    versions = [version for _, version in ends]
    expected = [ip_text(raw, version) for raw, version in ends]
    assert written("client_ip", client_ip=packed, ip_version=versions) == expected


@given(st.lists(st.integers(0, 2**15 - 1), min_size=1))
def test_flags_are_names_in_the_order_of_their_bits(values: list[int]) -> None:
    words = BY_NAME["flags"].words
    names = [[word for bit, word in enumerate(words) if value >> bit & 1] for value in values]
    assert written("flags", flags=values) == ["|".join(each) for each in names]
    assert [json.loads(cell) for cell in written("flags", json=True, flags=values)] == names


def test_words_and_history() -> None:
    assert written("server_state", server_state=[7, 0]) == ["CLOSE_WAIT", "CLOSED"]
    assert written("server_state", json=True, server_state=[2]) == ['"SYN_SENT"']
    letters = np.zeros((2, 32), np.uint8)
    letters[0, :3] = np.frombuffer(b"ShA", np.uint8)
    assert written("zeek_history", history=letters) == ["ShA", ""]
    assert written("zeek_history", json=True, history=letters) == ['"ShA"', '""']


def test_durations_have_a_sign_and_nine_decimals() -> None:
    times = {"first_ts_ns": [10, 0, 0], "last_ts_ns": [4, 0, 3_000_000_001]}
    assert written("duration_s", **times) == ["-0.000000006", "0.000000000", "3.000000001"]


def test_texts_of_no_rows_is_empty() -> None:
    assert texts(BY_NAME["zeek_history"], np.zeros(0, FLOW_DTYPE)) == []


def test_where_each_cell_ends() -> None:
    flows = np.zeros(3, FLOW_DTYPE)
    flows["client_port"] = (7, 65_535, 80)
    text, ends = octets(BY_NAME["client_port"], flows)
    assert (text.tobytes(), ends.tolist()) == (b"76553580", [1, 6, 8])


def line_of(*columns: tuple[int, Any], words: tuple[str, ...] = (), **choices: Any) -> bytes:
    """The lines of columns of any kind, parted by commas."""
    lines = Lines([(b"," if at else b"", kind, words) for at, (kind, _) in enumerate(columns)], b";", **choices)
    values = [np.asarray(column) for _, column in columns]
    out = np.empty(len(values[0]) * lines.most_bytes, np.uint8)
    return out[: lines.write(values, np.full(len(values[0]), 4, np.uint8), out)].tobytes()


def test_what_zeek_needs_besides() -> None:
    counts = (COUNT, np.array([0, -1, 2**40]))
    times = (MICROSECONDS, np.array([1_999_999_999, NO_TIME_NS, -5_000_000_123]))
    letters = (TEXT, np.array([b"ShA", b"", b"x" * 78]))
    wanted = b"0,1.999999,ShA;-,-,-;1099511627776,-5.000000," + b"x" * 78 + b";"
    assert line_of(counts, times, letters, nothing=b"-") == wanted


def test_a_value_that_has_no_word_is_left_empty() -> None:
    assert line_of((WORD, np.array([1, 2, 255], np.uint8)), words=("A", "B")) == b"B;;;"
    assert line_of((FLAGS, np.array([2**31, 3], np.uint32)), words=("a", "b")) == b";a|b;"


def test_columns_with_any_distance_between_their_rows() -> None:
    numbers = np.arange(40, dtype=np.uint16)
    assert line_of((INTEGER, numbers[::4]), (INTEGER, numbers[::-4])) == (
        b"0,39;4,35;8,31;12,27;16,23;20,19;24,15;28,11;32,7;36,3;"
    )


def test_the_longest_literals_and_the_longest_line() -> None:
    """The room that is asked for holds what is written, whatever comes last."""
    words = ("w" * 31,) * 32
    lines = Lines([(b"x" * 64, FLAGS, words), (b"y" * 64, WORD, words)], b"z" * 64, json=True)
    out = np.full(lines.most_bytes + 64, 7, np.uint8)
    columns = [np.array([2**32 - 1], np.uint32), np.array([31], np.uint8)]
    size = lines.write(columns, np.array([4], np.uint8), out[: lines.most_bytes])
    listed = ",".join([f'"{words[0]}"'] * 32)
    assert out[:size].tobytes().decode() == "x" * 64 + f"[{listed}]" + "y" * 64 + f'"{words[0]}"' + "z" * 64
    assert (out[lines.most_bytes :] == 7).all()


NUMBERS = np.zeros(4, np.int64)


def test_what_does_not_fit_is_refused() -> None:
    lines = Lines([(b"", TIME, ())], b"\n")
    versions = np.full(4, 4, np.uint8)
    room = np.zeros(4 * lines.most_bytes, np.uint8)
    with pytest.raises(ValueError, match="4 rows of up to"):
        lines.write([NUMBERS], versions, room[:-1])
    with pytest.raises(ValueError, match="4 rows of up to"):
        lines.write([NUMBERS], versions, room, np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="2 columns for 1 fields"):
        lines.write([NUMBERS, NUMBERS], versions, room)
    with pytest.raises(ValueError, match="does not fit 4 rows"):
        lines.write([NUMBERS[:3]], versions, room)
    with pytest.raises(ValueError, match="versions are uint8"):
        lines.write([NUMBERS], NUMBERS, room)
    with pytest.raises(ValueError, match="more than there is room for"):
        Lines([(b"", TIME, ())] * 81, b"\n")
    for wrong in ((b"", WORD, ("x" * 32,)), (b"x" * 65, INTEGER, ()), (b"", FLAGS, ("x",) * 33)):
        with pytest.raises(ValueError, match="does not fit"):
            Lines([wrong], b"\n")


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        (INTEGER, NUMBERS),
        (TIME, NUMBERS.astype(np.uint64)),
        (COUNT, NUMBERS.astype(np.int32)),
        (WORD, NUMBERS.astype(np.uint16)),
        (FLAGS, NUMBERS.astype(np.uint8)),
        (TEXT, NUMBERS),
        (TEXT, np.zeros(4, "S1023")),
        (TEXT, np.zeros((4, 1023), np.uint8)),
        (ADDRESS, np.zeros((4, 15), np.uint8)),
        (ADDRESS, np.zeros((4, 32), np.uint8)[:, ::2]),
        (INTEGER, np.zeros((4, 2), np.uint8)),
    ],
)
def test_columns_of_another_kind_are_refused(kind: int, column: np.ndarray[Any, Any]) -> None:
    lines = Lines([(b"", kind, ("x",))], b"\n")
    with pytest.raises(ValueError, match="does not fit 4 rows of its kind"):
        lines.write([column], np.full(4, 4, np.uint8), np.zeros(4 * lines.most_bytes, np.uint8))
