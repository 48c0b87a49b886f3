import numpy as np
import numpy.typing as npt

MOST_ROWS: int
SLACK_BYTES: int

class Packer:
    most_rows: int
    def __init__(self, most_rows: int) -> None: ...
    def pack(self, segments: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]: ...
    def unpack(self, data: npt.NDArray[np.uint8], segments: npt.NDArray[np.void]) -> int: ...
