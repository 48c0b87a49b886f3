from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

def endpoint_words(flows: _Array, client: bool, picks: _Array | None = None) -> _Array: ...
def hash_words(words: _Array, seed: int = 0) -> _Array: ...
def intern(
    words: _Array, seed: int, limit: int, keys: _Array, table: _Array, count: int, numbers: _Array
) -> tuple[int, int]: ...
