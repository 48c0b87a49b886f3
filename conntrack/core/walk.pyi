from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from conntrack.core.memory import DecodeMemory

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

class _Walker:
    def __init__(
        self,
        segments: npt.NDArray[np.void],
        tally: npt.NDArray[np.void],
        counts: npt.NDArray[np.uint64],
        memory: DecodeMemory,
    ) -> None: ...
    def walk(self, data: npt.NDArray[np.uint8], position: int, end: int, row: int) -> tuple[int, int, int, int]: ...

class PcapWalker(_Walker):
    def __init__(
        self,
        layout: npt.NDArray[np.void],
        segments: npt.NDArray[np.void],
        tally: npt.NDArray[np.void],
        counts: npt.NDArray[np.uint64],
        memory: DecodeMemory,
    ) -> None: ...

class PcapngWalker(_Walker):
    big_endian: bool
    @property
    def n_interfaces(self) -> int: ...
    def describe(self, interfaces: npt.NDArray[np.void], n_interfaces: int) -> None: ...
