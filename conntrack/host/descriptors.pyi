from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

def socket_inodes(folder: int, numbers: _Array, inodes: _Array, stop: bool) -> int: ...
