from collections.abc import Sequence
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

INTEGER: int
TIME: int
EPOCH: int
WORD: int
ADDRESS: int

class Lines:
    def __init__(
        self,
        dtype: np.dtype[Any],
        fields: Sequence[tuple[bytes, int, str, Sequence[str]]],
        end: bytes,
        *,
        json: bool = False,
    ) -> None: ...
    @property
    def most_bytes(self) -> int: ...
    def write(self, rows: _Array, out: _Array) -> int: ...
