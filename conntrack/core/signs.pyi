from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

def look(
    flows: _Array, close_wait: int, bars: _Array, least_ns: int, least_id: int, signs: _Array, candidates: _Array
) -> int: ...
