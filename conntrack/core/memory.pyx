"""What the decoder keeps from frame to frame: pieces of IP packets, and the table of outer paths.

Owns the dtypes of the arrays, which capture/paths.py makes and hands in, and holds them for the kernels.
"""

import numpy as np

cdef Fragmented _fragmented
cdef PathRecord _path
cdef Journal _journal
FRAGMENTED_DTYPE = np.asarray(<Fragmented[:1]> &_fragmented).dtype
PATH_DTYPE = np.asarray(<PathRecord[:1]> &_path).dtype
cdef Journal[:] _view = <Journal[:1]> &_journal  # typed: without one Cython leaves out what it shares
JOURNAL_DTYPE = np.asarray(_view).dtype


cdef class DecodeMemory:
    def __init__(self, fragmented not None, paths not None, slots not None, journal not None):
        for array, dtype in (
            (fragmented, FRAGMENTED_DTYPE), (paths, PATH_DTYPE), (slots, np.dtype(np.uint32)), (journal, JOURNAL_DTYPE)
        ):
            if array.dtype != dtype or array.size == 0:
                raise TypeError(f"an array of {array.dtype} with {array.size} elements, where {dtype} is needed")
        if slots.size & (slots.size - 1) or slots.size < paths.size:
            raise ValueError(f"{slots.size} slots for {paths.size} paths: a power of two, and no fewer")
        self.fragmented = fragmented
        self.paths = paths
        self.slots = slots
        self.journal = journal
        cdef uint32_t known = self.journal[0].paths
        if not 1 <= known <= paths.size or self.journal[0].last_path >= known or self.journal[0].vlans_path >= known:
            raise ValueError("the journal does not begin with path 0, that of plain frames, in use")
        self.memory.fragmented = &self.fragmented[0]
        self.memory.n_fragmented = self.fragmented.shape[0]
        self.memory.paths = &self.paths[0]
        self.memory.n_paths = self.paths.shape[0]
        self.memory.slots = &self.slots[0]
        self.memory.n_slots = self.slots.shape[0]
        self.memory.journal = &self.journal[0]
