from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

SILENT_DTYPE: np.dtype[Any]

def state_spans(
    flows: _Array, states: _Array, counted: int, time_wait_ns: int, step_ns: int
) -> tuple[_Array, _Array, _Array, _Array, int, int]: ...
def add_spans(
    changes: _Array, cells: _Array, begun: _Array, over: _Array, far: int, first: int, factor: int
) -> None: ...
def time_wait_spans(
    flows: _Array, time_wait: int, time_wait_ns: int
) -> list[tuple[_Array, _Array, _Array, _Array]]: ...
def silent_ends(flows: _Array, picks: _Array, close_wait: int, age_ns: int) -> _Array: ...
