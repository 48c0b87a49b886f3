from typing import Any

import numpy as np

INTERFACE_DTYPE: np.dtype[Any]
RECEIVED_TOLD: int
DROPPED_TOLD: int

def time_scale(resolution: int) -> tuple[int, int, int, int]: ...
