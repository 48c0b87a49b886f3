from collections.abc import Sequence
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

INTEGER: int
COUNT: int
TIME: int
SECONDS: int
MICROSECONDS: int
WORD: int
ADDRESS: int
TEXT: int
FLAGS: int

class Lines:
    def __init__(
        self,
        fields: Sequence[tuple[bytes, int, Sequence[str]]],
        end: bytes,
        *,
        json: bool = False,
        nothing: bytes = b"",
    ) -> None: ...
    @property
    def most_bytes(self) -> int: ...
    def write(self, columns: Sequence[_Array], versions: _Array, out: _Array, ends: _Array | None = None) -> int: ...
