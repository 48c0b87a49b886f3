import numpy as np
import numpy.typing as npt

from conntrack.core.walk import _Walker

MOST_SECTION_INTERFACES: int

class PcapngWalker(_Walker):
    @property
    def big_endian(self) -> bool: ...
    @property
    def comments(self) -> int: ...
    @property
    def n_interfaces(self) -> int: ...
    @property
    def n_kept(self) -> int: ...
    def use_interfaces(self, interfaces: npt.NDArray[np.void], kept: int) -> None: ...
    def walk(
        self, data: npt.NDArray[np.uint8], position: int, end: int, row: int, told: bool = False
    ) -> tuple[int, int, int, int]: ...
