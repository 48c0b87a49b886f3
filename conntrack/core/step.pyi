from typing import Any

import numpy as np

from .live import LiveTable

def step(table: LiveTable, segments: np.ndarray[Any, Any]) -> None: ...
def use_lanes(table: LiveTable, wanted: bool) -> bool: ...
