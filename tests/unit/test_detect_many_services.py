"""More services in one batch than there was room for: their attempts are counted as in any other split."""

from __future__ import annotations

import detected
import numpy as np
from flow_rows import at, many, refused

from conntrack.detect import ConnectionRefused, DetectOptions


def test_a_batch_that_outgrows_the_services_is_counted_once() -> None:
    rows = many(refused(0.0), np.arange(3000) / 100)
    rows["server_port"] = 1000 + np.arange(3000)
    (finding,) = detected.found(ConnectionRefused, rows, at(60), lone_subjects_max=5000)
    assert (finding.count, finding.evidence["attempts"], finding.evidence["services"]) == (3000, 3000, 3000)
    assert DetectOptions().host_services_max < 3000
