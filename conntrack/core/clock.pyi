import numpy as np
import numpy.typing as npt

class Clock:
    state: tuple[int, int, int]
    @property
    def now_ns(self) -> int: ...
    @property
    def settled_ns(self) -> int: ...
    def advance(self, segments: npt.NDArray[np.void]) -> None: ...
