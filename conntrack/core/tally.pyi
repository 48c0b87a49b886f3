from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

def accumulate(
    keys: _Array, counts: _Array | None, seed: int, slots: _Array, used: int, most: int
) -> tuple[int, int]: ...
