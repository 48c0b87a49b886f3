"""SEGMENT_DTYPE, FLOW_DTYPE and SOCKET_DTYPE, derived from the C structs of abi.pxd.

The only definition of what crosses in bulk.
"""

import numpy as np

cdef SegmentRecord _segment
cdef FlowRecord _flow
cdef SocketRecord _socket

SEGMENT_DTYPE = np.asarray(<SegmentRecord[:1]> &_segment).dtype
FLOW_DTYPE = np.asarray(<FlowRecord[:1]> &_flow).dtype
cdef SocketRecord[:] _view = <SocketRecord[:1]> &_socket  # typed: without one Cython leaves out what it shares
SOCKET_DTYPE = np.asarray(_view).dtype

HAS_TIMESTAMP = SEGMENT_HAS_TIMESTAMP
HAS_SACK_PERMITTED = SEGMENT_HAS_SACK_PERMITTED
HAS_SACK = SEGMENT_HAS_SACK
HAS_FAST_OPEN = SEGMENT_HAS_FAST_OPEN
OPTIONS_CUT = SEGMENT_OPTIONS_CUT


def flow_bytes(flows):
    """Return connections (FLOW_DTYPE, shape (n,)) as bytes, shape (n * itemsize,), for kernels to read as FlowRecord.

    The same memory, unless it has gaps. A memoryview of the struct itself costs 100 us each time it is acquired.
    """
    if flows.dtype != FLOW_DTYPE:
        raise TypeError(f"connections are {FLOW_DTYPE}, not {flows.dtype}")
    return np.ascontiguousarray(flows).view(np.uint8)
