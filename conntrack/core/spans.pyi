from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

SPAN_DTYPE: np.dtype[Any]
LINGERING_DTYPE: np.dtype[Any]
SILENT_DTYPE: np.dtype[Any]

def count_states(
    flows: _Array,
    states: _Array,
    counted: int,
    time_wait_ns: int,
    step_ns: int,
    changes: _Array,
    first: int,
    factor: int,
    services: _Array,
    traits: _Array,
    want_proven: bool,
    want_unproven: bool,
    keys: _Array,
    clients: _Array,
) -> tuple[int, int, int, int, int, int]: ...
def rows_of(spans: _Array) -> _Array: ...
def span_keys(spans: _Array, groups: _Array, far: int) -> tuple[_Array, _Array]: ...
def lingering_ends(flows: _Array, picks: _Array, age_ns: int) -> _Array: ...
def silent_ends(flows: _Array, picks: _Array, close_wait: int, age_ns: int) -> _Array: ...
