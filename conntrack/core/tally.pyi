from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

def add_ones(ones: _Array, keys: _Array, counts: _Array, out_keys: _Array, out_counts: _Array) -> int: ...
