"""Feeds rows to detectors and says what they found: one of them alone, or everything that reads rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.detect import DETECTORS, Detection, DetectOptions, Finding
from conntrack.detect.limits import WHOLE, Limits

__all__ = ["everything", "found"]


def everything(*parts: np.ndarray, options: DetectOptions | None = None, limits: Limits = WHOLE) -> Detection:
    """Return all detectors, the series and the summary, fed with `parts`."""
    detection = Detection(DETECTORS, options, limits)
    for rows in parts:
        detection.feed(rows)
    return detection


def found(
    detector: type[Any], rows: np.ndarray, end_ts_ns: int, *, limits: Limits = WHOLE, **options: Any
) -> list[Finding]:
    """Return what one detector alone finds in `rows`."""
    detection = Detection([detector], DetectOptions(**options), limits)
    detection.feed(rows)
    return detection.findings(end_ts_ns)
