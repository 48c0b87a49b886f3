# From a live record to a row that is complete in itself. See expand.pyx.
from libc.stdint cimport uint8_t

from .abi cimport FlowRecord
from .live cimport LiveFlow, Tables

cdef enum:                      # states.EndReason
    OPEN_AT_END = 0
    END_FIN = 1
    END_RESET = 2
    END_REFUSED = 3
    END_TIMEOUT = 4
    END_REPLACED = 5
    END_EVICTED = 6

cdef void put_ip(Tables* t, LiveFlow* f, int side, uint8_t* to) noexcept nogil
cdef void expand(Tables* t, LiveFlow* f, int end_reason, FlowRecord* out) noexcept nogil
