"""What Python may not be given: told at once, by an exception of the documented kind and in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benches.flooding import BEGIN_NS, endpoints, syns
from conntrack import cluster, memory
from conntrack.cluster import checkpoint
from conntrack.core.abi import FLOW_DTYPE
from conntrack.errors import CaptureError
from conntrack.export import make_exporter
from conntrack.states import TcpState
from conntrack.tracker import Tracker

INCIDENT = Path(__file__).parent.parent / "captures" / "incident.pcap"


class TestTracker:
    def test_profiles(self) -> None:
        with pytest.raises(ValueError, match=r"^no profile 'minix'; there are .*linux"):
            Tracker(profile="minix")

    def test_a_timer_that_no_host_has(self) -> None:
        with pytest.raises(ValueError, match=r"^ESTABLISHED has no timer on any host$"):
            Tracker(timeouts={TcpState.ESTABLISHED: 5.0})
        assert len(Tracker(timeouts={TcpState.ESTABLISHED: None, TcpState.TIME_WAIT: 5.0})) == 0

    def test_rows_of_another_kind(self) -> None:
        with pytest.raises(TypeError, match=r"^segments are of SEGMENT_DTYPE, not "):
            Tracker().process(np.empty(1, FLOW_DTYPE))

    def test_what_comes_after_the_end(self) -> None:
        tracker = Tracker()
        tracker.process(syns(endpoints(1, 3)))
        assert sum(map(len, tracker.finish())) == 3
        with pytest.raises(RuntimeError, match=r"^the tracker has been finished$"):
            tracker.process(syns(endpoints(1, 1)))
        with pytest.raises(RuntimeError, match=r"^the tracker has been finished$"):
            list(tracker.finish())

    def test_instants_in_the_past(self) -> None:
        tracker = Tracker()
        assert len(tracker.snapshot(0)) == len(tracker.sockets(0)) == 0, "nothing has passed yet"
        segments = syns(endpoints(1, 3))
        segments["ts_ns"] = BEGIN_NS
        tracker.process(segments)
        assert len(tracker.snapshot(BEGIN_NS)) == len(tracker.sockets(BEGIN_NS)) == 3
        for ask in (tracker.snapshot, tracker.sockets):
            with pytest.raises(ValueError, match=f"^{BEGIN_NS - 1} is before the last segment, at {BEGIN_NS}$"):
                ask(BEGIN_NS - 1)


class TestMemory:
    def test_what_there_is_no_room_for(self) -> None:
        """As much as there is, but not less than what is needed."""
        with pytest.raises(MemoryError, match=r"^\d+ bytes for \d+ records of 4096$"):
            memory.Reservation(1 << 60, np.dtype("V4096"), 1 << 60)
        assert len(memory.Reservation(1 << 60, np.dtype("V4096"), 1).records) >= 1


class TestCluster:
    def test_chunks(self) -> None:
        with pytest.raises(ValueError, match=r"^chunk_bytes must be at least 1, not -1$"):
            cluster.analyze(INCIDENT, workers=1, chunk_bytes=-1)

    def test_damage_is_raised_behind_the_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pcap"
        path.write_bytes(INCIDENT.read_bytes()[:-7])
        rows = 0
        with pytest.raises(CaptureError, match="cut short"):
            for batch in cluster.track(path, workers=1):
                rows += len(batch)
        assert rows > 100
        with pytest.raises(CaptureError, match="cut short"):
            cluster.write_parquet(path, to=tmp_path / "out", workers=1)

    def test_a_checkpoint_has_forms_for_its_own_kinds_alone(self) -> None:
        with pytest.raises(TypeError, match=r"^a checkpoint has no form for set$"):
            checkpoint._plain({1}, {})
        with pytest.raises(TypeError, match="standing"):
            checkpoint._checked([])


class TestRows:
    def test_of_what_there_are_none(self) -> None:
        with pytest.raises(ValueError, match=r"^no rows of 'packets'$"):
            make_exporter("csv", of="packets")
