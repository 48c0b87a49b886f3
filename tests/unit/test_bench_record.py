"""What the benches call out: a ratio to the floor that is a tenth above the one recorded last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benches import record


def test_a_tenth_is_called_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    for date, commit, ratio in (("2026-02-01", "new", 4.0), ("2026-01-01", "old", 9.0)):
        benches = [{"name": "report", "ratio_to_floor": ratio}, {"name": "index", "median_s": 1.0}]
        (tmp_path / f"{date}-{commit}.json").write_text(
            json.dumps({"date": date, "commit": commit, "benches": benches})
        )
    (tmp_path / "peers.json").write_text(json.dumps({"date": "2026-03-01", "commit": "x", "peers": []}))
    before = record.recorded()
    assert before == {"report": (4.0, "new")}
    assert record.slower([{"name": "report", "ratio_to_floor": 4.3}], before) == []
    assert record.slower([{"name": "report", "ratio_to_floor": 4.5}], before) == [
        "slower: report takes 4.50 times the floor, 4.00 at new"
    ]
    assert record.slower([{"name": "other", "ratio_to_floor": 99.0}, {"name": "index"}], before) == []
