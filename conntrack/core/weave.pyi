from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

def compare(before: _Array, rows: _Array, same: _Array) -> int: ...

class Page:
    def __len__(self) -> int: ...
    def octets(self) -> _Array: ...

def weave(
    same: _Array,
    before: Page,
    heads: tuple[_Array, _Array],
    tails: tuple[_Array, _Array],
    instant: bytes,
    page: Page,
) -> None: ...
