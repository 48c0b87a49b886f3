from typing import Any

import numpy as np

def sha1_rows(messages: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...
