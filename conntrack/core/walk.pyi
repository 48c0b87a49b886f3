from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

class Stop(IntEnum):
    MORE_INPUT = 0
    OUTPUT_FULL = 1
    CONTROL_BLOCK = 2
    BAD_LENGTH = 3
    BAD_TRAILER = 4
    BAD_PACKET = 5

TALLY_DTYPE: np.dtype[Any]
PCAP_LAYOUT_DTYPE: np.dtype[Any]
INTERFACE_DTYPE: np.dtype[Any]
N_OUTCOMES: int
LAST_TIME_NS: int
NO_TIME_NS: int
TIME_MULTIPLY: int
TIME_DIVIDE: int
TIME_SHIFT: int
MOST_BLOCK_BYTES: int

def walk_pcap(
    data: npt.NDArray[np.uint8],
    position: int,
    end: int,
    layout: npt.NDArray[np.void],
    out: npt.NDArray[np.void],
    row: int,
    tally: npt.NDArray[np.void],
    counts: npt.NDArray[np.uint64],
) -> tuple[int, int, int, int]: ...
def walk_pcapng(
    data: npt.NDArray[np.uint8],
    position: int,
    end: int,
    big_endian: bool,
    interfaces: npt.NDArray[np.void],
    out: npt.NDArray[np.void],
    row: int,
    tally: npt.NDArray[np.void],
    counts: npt.NDArray[np.uint64],
) -> tuple[int, int, int, int]: ...
