from typing import Any

import numpy as np

def community_ids(flows: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]: ...
