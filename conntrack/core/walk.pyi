from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from conntrack.core.memory import DecodeMemory

class Stop(IntEnum):
    MORE_INPUT = 0
    OUTPUT_FULL = 1
    WORDS = 2
    NO_ROOM = 3
    BAD_LENGTH = 4
    BAD_TRAILER = 5
    BAD_PACKET = 6
    BAD_ORDER = 7
    BAD_VERSION = 8
    NO_PROGRAM = 9

TALLY_DTYPE: np.dtype[Any]
PCAP_LAYOUT_DTYPE: np.dtype[Any]
N_OUTCOMES: int
N_PROGRAMS: int
NOT_COMPILED: int
LAST_TIME_NS: int
NO_TIME_NS: int

class _Programs(Protocol):
    @property
    def function(self) -> int: ...
    @property
    def programs(self) -> npt.NDArray[np.uint64]: ...

class _Walker:
    def __init__(
        self,
        segments: npt.NDArray[np.void],
        tally: npt.NDArray[np.void],
        counts: npt.NDArray[np.uint64],
        memory: DecodeMemory,
    ) -> None: ...
    def use_filter(self, filter: _Programs) -> None: ...
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

class SnoopWalker(_Walker):
    def __init__(
        self,
        link_type: int,
        segments: npt.NDArray[np.void],
        tally: npt.NDArray[np.void],
        counts: npt.NDArray[np.uint64],
        memory: DecodeMemory,
    ) -> None: ...
    @property
    def dropped(self) -> int: ...
