from typing import Any

import numpy as np
import numpy.typing as npt

ENTRY_DTYPE: np.dtype[Any]

class Window:
    size: int
    def __init__(self, rows: npt.NDArray[np.void], size: int) -> None: ...
    def arrange(self, held: int, filled: int) -> bool: ...
    def keep(self, start: int, stop: int) -> None: ...
