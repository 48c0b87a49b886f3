"""What core hands to detectors about notable rows, against the same said plainly."""

from __future__ import annotations

import numpy as np
import pytest
from flow_rows import completed, flows, many, stuck_in_close_wait, unanswered

from conntrack.core.counts import Outcome, tries
from conntrack.core.keys import every, hash_words
from conntrack.core.spans import lingering_ends
from conntrack.core.survey import Trait

NS = 10**9


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 70, 4096, 2**33 + 1, 2**63, 2**64 - 1])
def test_every_chooses_by_the_hash(divisor: int) -> None:
    values = np.concatenate([np.arange(5000, dtype=np.uint64), np.arange(100, dtype=np.uint64) << np.uint64(57)])
    expected = np.flatnonzero(hash_words(values[:, None]) % np.uint64(divisor) == 0)
    assert np.array_equal(every(values, divisor), expected)


def test_every_needs_a_divisor() -> None:
    with pytest.raises(ValueError, match="divisor"):
        every(np.zeros(3, np.uint64), 0)


def test_tries_are_told_with_their_outcome() -> None:
    rows = flows(many(unanswered(client_syns=1), [0, 1]), many(unanswered(client_syns=3), [2, 3]))
    traits = np.array([Trait.REFUSED, Trait.UNANSWERED, Trait.UNANSWERED, 0], np.uint32)
    told = tries(rows, np.arange(4), traits, 0)
    assert told["outcome"].tolist() == [
        Outcome.WAS_REFUSED,
        Outcome.WAS_SILENT,
        Outcome.WAS_SILENT | Outcome.WAS_REPEATED,
        Outcome.WAS_GIVEN_UP | Outcome.WAS_REPEATED,
    ]
    assert np.array_equal(told["flow_id"], rows["flow_id"])
    assert np.array_equal(told["ts_ns"], rows["first_ts_ns"])
    assert set(told["port"].tolist()) == {80}
    assert np.array_equal(told["host"][0].tobytes(), rows["client_ip"][0].tobytes())
    assert np.array_equal(told["target"][0].tobytes(), rows["server_ip"][0].tobytes())


def test_of_tries_a_share_is_left_by_their_hash() -> None:
    rows = many(unanswered(), np.zeros(64), 0x0B000000 + np.arange(64))
    traits = np.zeros(64, np.uint32)
    whole = tries(rows, np.arange(64), traits, 0)
    assert len(np.unique(whole["hash"])) == 64
    for level in (1, 2, 63):
        kept = whole[whole["hash"] & np.uint64((1 << level) - 1) == 0]
        assert np.array_equal(tries(rows, np.arange(64), traits, level), kept)
    assert len(tries(rows, np.arange(64), traits, 63)) == 0


def test_an_end_lingers_until_something_ends_it() -> None:
    rows = flows(stuck_in_close_wait(), completed())
    rows["client_since_ts_ns"][0] = rows["client_fin_acked_ts_ns"][0]
    told = lingering_ends(rows, np.arange(2), 60 * NS)
    assert told["flow_id"].tolist() == rows["flow_id"][:1].tolist(), "the client that waits for the server's FIN"
    assert told["subject"][0, 3] == 1
    assert told["subject"][0, 2] == 4 << 16
    assert told["start"][0] == rows["client_fin_acked_ts_ns"][0]
    assert told["end"][0] == 1 << 62
    rows["closed_ts_ns"][0] = told["start"][0] + 60 * NS - 1
    assert len(lingering_ends(rows, np.arange(2), 60 * NS)) == 0
    rows["closed_ts_ns"][0] += 1
    assert len(lingering_ends(rows, np.arange(2), 60 * NS)) == 1
    rows["half_close_payload_ts_ns"][0] = told["start"][0] + 1
    assert len(lingering_ends(rows, np.arange(2), 60 * NS)) == 0, "the half-close is in use"


@pytest.mark.parametrize("picks", [[-1], [2], [0, 5]])
def test_rows_that_are_not_there_are_refused(picks: list[int]) -> None:
    rows, chosen = many(unanswered(), [0, 1]), np.array(picks)
    with pytest.raises(IndexError, match="not all in the 2 rows"):
        lingering_ends(rows, chosen, NS)
    with pytest.raises(IndexError, match="not all in the 2 rows"):
        tries(rows, chosen, np.zeros(2, np.uint32), 0)


def test_tries_need_a_trait_for_each_row_and_a_level() -> None:
    rows = many(unanswered(), [0, 1])
    for traits, level in ((np.zeros(1, np.uint32), 0), (np.zeros(2, np.uint32), 64), (np.zeros(2, np.uint32), -1)):
        with pytest.raises(ValueError, match="traits of 2 rows"):
            tries(rows, np.arange(2), traits, level)
