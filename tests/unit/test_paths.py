"""The table of outer paths: numbers, words, and what happens when it is full."""

from __future__ import annotations

import random

import numpy as np
import pytest
from frames import ethernet, ipv4, ipv6, tcp
from layers import INNER4, mpls

from conntrack.capture.paths import _WORDS, MOST_PATHS, OTHER_PATHS, Paths, path_text
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.decode import Outcome, decode
from conntrack.core.memory import FRAGMENTED_DTYPE, JOURNAL_DTYPE, PATH_DTYPE, DecodeMemory
from conntrack.core.paths import Token


def number_of(frame: bytes, paths: Paths, link_type: int = 1) -> int:
    record = np.zeros(1, SEGMENT_DTYPE)
    assert decode(frame, record, link_type, None, paths.memory) == Outcome.TCP
    return int(record["path"][0])


def test_plain_frames_are_path_0() -> None:
    paths = Paths()
    assert number_of(ethernet(INNER4), paths) == 0
    assert number_of(ethernet(ipv6(tcp()), 0x86DD), paths) == 0
    assert number_of(INNER4, paths, 101) == 0
    assert list(paths) == [""]


def test_a_path_keeps_its_number() -> None:
    paths = Paths()
    frames = [ethernet(INNER4, vlans=[(0x8100, vlan)]) for vlan in (1, 2, 1, 3, 2)]
    assert [number_of(frame, paths) for frame in frames] == [1, 2, 1, 3, 2]
    assert list(paths) == paths[:] == ["", "eth/vlan 1", "eth/vlan 2", "eth/vlan 3"]
    assert paths == ["", "eth/vlan 1", "eth/vlan 2", "eth/vlan 3"]
    with pytest.raises(IndexError, match="path 4 of 4"):
        paths[4]


def test_vlans_in_any_order_and_number() -> None:
    """The last ones are remembered by their tag: no other VLANs, and nothing else on the way, may be taken for them."""
    chance = random.Random(7)
    paths = Paths()
    for _ in range(3_000):
        vlans = [chance.choice((0, 1, 2, 4095)) for _ in range(chance.randrange(4))]
        inside = chance.random() < 0.2
        frame = ethernet(
            mpls(INNER4, 16) if inside else INNER4,
            0x8847 if inside else 0x0800,
            [(chance.choice((0x8100, 0x88A8)), vlan) for vlan in vlans],
        )
        words = [f"/vlan {vlan}" for vlan in vlans if vlan] + ["/mpls 16"] * inside
        assert paths[number_of(frame, paths)] == ("eth" + "".join(words) if words else "")


def test_vlans_without_room_are_counted_each() -> None:
    paths = Paths()
    for vlan in range(1, MOST_PATHS + 500):
        number_of(ethernet(INNER4, vlans=[(0x8100, vlan >> 12), (0x8100, vlan & 0xFFF)]), paths)
    last = ethernet(INNER4, vlans=[(0x8100, 4094), (0x8100, 4094)])
    before = paths.unnumbered
    assert [number_of(last, paths) for _ in range(3)] == [OTHER_PATHS] * 3
    assert paths.unnumbered == before + 3


def test_the_link_is_part_of_it() -> None:
    paths = Paths()
    tunnel = ipv4(INNER4, protocol=4)
    numbers = [number_of(tunnel, paths, link_type) for link_type in (101, 228)]
    assert numbers == [1, 2]
    assert paths[1:] == ["raw/ipv4 10.0.0.1>10.0.0.2", "ipv4/ipv4 10.0.0.1>10.0.0.2"]


def test_a_description_without_room_is_cut() -> None:
    packet = INNER4
    for _ in range(5):
        packet = ipv6(packet, protocol=4 if packet is INNER4 else 41)
    paths = Paths()
    number = number_of(ethernet(packet, 0x86DD), paths)
    assert paths[number] == "eth" + "/ipv6 2001:db8::1>2001:db8::2" * 3 + "/..."


def test_a_full_table() -> None:
    paths = Paths()
    numbers = [number_of(ethernet(mpls(INNER4, 16 + label), 0x8847), paths) for label in range(MOST_PATHS + 100)]
    # Each path has one number; in a crowded part of the index a path may find no room before the table is full.
    own = [number for number in numbers if number != OTHER_PATHS]
    assert own == list(range(1, len(own) + 1))
    assert len(own) <= MOST_PATHS - 1
    assert len(own) > 0.99 * MOST_PATHS
    assert paths.unnumbered == len(numbers) - len(own) >= 101
    assert paths[OTHER_PATHS] == "others"
    assert number_of(ethernet(mpls(INNER4, 16), 0x8847), paths) == 1


def test_every_token_has_words() -> None:
    assert set(_WORDS) == set(Token) - {Token.TOKEN_REST, Token.TOKENS}
    for token, (word, size) in _WORDS.items():
        assert path_text(b"\x00\x01" + bytes([token]) + bytes(size)).startswith("eth/" + word.split("{")[0])


def test_memory_of_another_shape_is_refused() -> None:
    journal = np.zeros(1, JOURNAL_DTYPE)
    arrays = (np.zeros(8, FRAGMENTED_DTYPE), np.zeros(4, PATH_DTYPE), np.zeros(4, np.uint32))
    with pytest.raises(ValueError, match="does not begin with path 0"):
        DecodeMemory(*arrays, journal)
    journal["paths"] = 1
    DecodeMemory(*arrays, journal)
    with pytest.raises(ValueError, match="3 slots for 4 paths"):
        DecodeMemory(*arrays[:2], np.zeros(3, np.uint32), journal)
    with pytest.raises(TypeError, match="is needed"):
        DecodeMemory(arrays[1], arrays[1], arrays[2], journal)
