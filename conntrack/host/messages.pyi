from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

HOST_SOCKET_DTYPE: np.dtype[Any]

MORE: int
DONE: int
FAILED: int
FULL: int
MALFORMED: int
TELLS_IDLE: int
TELLS_SINCE: int

class Answer:
    consumed: int
    refusal: int
    skipped: int
    def __init__(self, sequence: int, at_ts_ns: int, states: _Array, clocks: _Array, linger_ns: _Array) -> None: ...
    def read(self, octets: bytes | bytearray | memoryview, rows: _Array, filled: int) -> tuple[int, int]: ...
