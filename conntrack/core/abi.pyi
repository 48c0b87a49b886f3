from typing import Any

import numpy as np

SEGMENT_DTYPE: np.dtype[Any]
FLOW_DTYPE: np.dtype[Any]
HAS_TIMESTAMP: int
HAS_SACK_PERMITTED: int
HAS_SACK: int
HAS_FAST_OPEN: int
OPTIONS_CUT: int

def flow_bytes(flows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...
