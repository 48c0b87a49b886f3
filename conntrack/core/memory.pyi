from typing import Any

import numpy as np
import numpy.typing as npt

FRAGMENTED_DTYPE: np.dtype[Any]
PATH_DTYPE: np.dtype[Any]
JOURNAL_DTYPE: np.dtype[Any]

class DecodeMemory:
    def __init__(
        self,
        fragmented: npt.NDArray[np.void],
        paths: npt.NDArray[np.void],
        slots: npt.NDArray[np.uint32],
        journal: npt.NDArray[np.void],
    ) -> None: ...
