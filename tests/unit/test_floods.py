"""Floods of state, bounded: half-open connections beyond a budget, 4-tuples chosen to meet in the index, and the rest.

The benches that these functions are of (benches/half_open.py, flooding.py, bounded.py) run them at any size.
"""

from __future__ import annotations

import numpy as np

from benches.bounded import run as run_bounded
from benches.flooding import KNOWN, colliding, endpoints, measure
from benches.half_open import run
from conntrack.capture.interfaces import MOST_DESCRIBED
from conntrack.upkeep import LEAST_BUDGET

MOST_INTERFACES = 65_536
"""Of core/walk_pcapng.pyx, as SECURITY.md has it."""


def test_a_flood_beyond_the_budget_ends_and_names_every_eviction() -> None:
    done = run(1_200_000, LEAST_BUDGET, 2)
    endings = done["endings"]
    assert sum(endings.values()) == 1_200_000, "every connection has a row"
    assert endings["EVICTED"] == done["evicted"] > 500_000
    assert [subject for kind, subject, *_ in done["findings"] if kind == "syn_flood"] == ["10.0.0.1:80"]


def test_chosen_4_tuples_meet_only_under_the_key_they_were_chosen_for() -> None:
    """All in one home, each behind those before it; under a key that nobody knows as near to home as any others."""
    chosen = colliding(KNOWN, 800, 10)
    known, unknown = measure(chosen, KNOWN), [measure(chosen, None) for _ in range(3)]
    assert known["probes_max"] > 400
    others = measure(endpoints(7, 800), None)
    assert max(one["probes_max"] for one in [*unknown, others]) < 100
    assert {one["rows_sha256"] for one in [known, *unknown]} == {known["rows_sha256"]}


def test_the_key_is_another_each_time() -> None:
    clients = endpoints(3, 5_000)
    rows = {measure(clients, None)["rows_sha256"] for _ in range(2)}
    assert len(rows) == 1
    assert len({measure(clients, None)["probes_mean"] for _ in range(6)}) > 1
    assert np.array_equal(KNOWN, [1, 2, 3, 4])


def test_generations_of_one_4_tuple() -> None:
    """Each has its row; the number stays at its largest."""
    done = run_bounded("generations", 70_000)
    assert (done["connections"], done["packets"]) == (70_000, 140_000)
    assert (done["generation_max"], done["of_that_generation"]) == (65_535, 70_000 - 65_534)
    assert done["table_bytes"] <= run_bounded("generations", 10)["table_bytes"], "one is in the table"


def test_out_of_order_ranges() -> None:
    """A hole before each of 100,000 segments: they are counted, and take what four of them take."""
    done, few = run_bounded("ranges", 100_000), run_bounded("ranges", 20)
    assert (done["connections"], done["out_of_order"]) == (1, 99_999)
    assert done["table_bytes"] == few["table_bytes"] > 0


def test_sections_of_a_pcapng_file() -> None:
    """Each has its packet; what is remembered of interfaces does not grow with them."""
    done = run_bounded("sections", 30_000)
    assert (done["packets"], done["interfaces_described"], done["faults"]) == (30_000, MOST_DESCRIBED, [])


def test_interfaces_of_a_section() -> None:
    """What came before them is used, and one line says where it ended."""
    done = run_bounded("interfaces", MOST_INTERFACES + 10)
    assert (done["packets"], done["interfaces_described"]) == (1, MOST_DESCRIBED)
    (said,) = done["faults"]
    assert f"more than {MOST_INTERFACES} interfaces, offset" in said
    assert run_bounded("interfaces", MOST_INTERFACES)["faults"] == []


def test_packets_of_which_one_fragment_came() -> None:
    """Beyond those that may wait they are counted all the same."""
    done = run_bounded("fragments", 50_000)
    assert done["skipped"] == {"ip_fragment": 50_000}
    assert (done["incomplete"], done["connections"]) == (50_000, 0)


def test_tunnels_in_tunnels() -> None:
    assert run_bounded("layers", 60_000)["skipped"] == {"too_deep": 20}
