import numpy as np
import numpy.typing as npt

from conntrack.core.clock import Clock

MOST_SHARDS: int

def shard_of(
    segments: npt.NDArray[np.void], shards: int, key: npt.NDArray[np.uint64], out: npt.NDArray[np.uint16]
) -> None: ...
def scatter(
    segments: npt.NDArray[np.void],
    parts: npt.NDArray[np.void],
    filled: npt.NDArray[np.uint32],
    key: npt.NDArray[np.uint64],
    places: npt.NDArray[np.uint32] | None = None,
    clock: Clock | None = None,
) -> tuple[int, int]: ...
