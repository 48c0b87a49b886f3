import numpy as np
import numpy.typing as npt

def first_record(
    data: npt.NDArray[np.uint8],
    searched: int,
    at_end: bool,
    layout: npt.NDArray[np.void],
    near_s: int,
    leads: npt.NDArray[np.uint8],
) -> int: ...
def first_block(
    data: npt.NDArray[np.uint8], searched: int, at_end: bool, big: bool, leads: npt.NDArray[np.uint8]
) -> int: ...
