from typing import Any

import numpy as np

from .live import LiveTable

_Array = np.ndarray[Any, Any]

FAULTS: dict[int, str]

def sweep(table: LiveTable, start: int = 1) -> int: ...
def live_records(table: LiveTable) -> _Array: ...
def expand_live(table: LiveTable, records: _Array, now_ns: int, out: _Array) -> None: ...
def check(table: LiveTable) -> None: ...
