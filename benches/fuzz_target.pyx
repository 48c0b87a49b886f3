"""What libFuzzer calls: one input into the kernels, millions of times, with no Python object made for a frame.

Owns the form of the inputs. `captures` takes a capture as it is in a file; `frames` a byte that chooses the link type,
then frames of one byte of length each, in memory of their own so that a sanitizer sees where each ends. The tables that
kernels keep from frame to frame are small, so that they overflow, and empty for each input, so that it can be run
again.

Built by sanitized.py alone; LLVMFuzzerRunDriver is in the library that is loaded ahead.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.cursor cimport Fragmented, Journal, Memory, PathRecord
from conntrack.core.decode cimport OUTCOMES, decode_frame
from conntrack.core.walk cimport MORE_INPUT, NO_ROOM, NO_TIME, OUTPUT_FULL, WORDS, Tally

import numpy as np

from conntrack.capture.kinds import PCAP_MAGICS
from conntrack.capture.linklayer import LINK_TYPES
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.blocks import INTERFACE_DTYPE
from conntrack.core.memory import FRAGMENTED_DTYPE, JOURNAL_DTYPE, PATH_DTYPE, DecodeMemory
from conntrack.core.order import Window
from conntrack.core.walk import (
    LAST_TIME_NS,
    N_OUTCOMES,
    PCAP_LAYOUT_DTYPE,
    TALLY_DTYPE,
    PcapWalker,
    SnoopWalker,
)
from conntrack.core.walk_pcapng import PcapngWalker

cdef extern from *:
    """extern int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *, size_t));"""
    int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *, size_t) noexcept)

cdef enum:
    ROWS = 8
    KEPT_INTERFACES = 4
    MOST_NS = 50000000          # of a thread, for an input of a few kilobytes; a second a megabyte is the promise

FUZZED_LINKS = (*LINK_TYPES, 999)
cdef uint32_t[64] links
for place in range(64):
    links[place] = FUZZED_LINKS[place % len(FUZZED_LINKS)]

segments = np.zeros(ROWS, SEGMENT_DTYPE)
tally = np.zeros(1, TALLY_DTYPE)
counts = np.zeros(N_OUTCOMES, np.uint64)
fragmented, paths = np.zeros(8, FRAGMENTED_DTYPE), np.zeros(16, PATH_DTYPE)
slots, journal = np.zeros(16, np.uint32), np.zeros(1, JOURNAL_DTYPE)
journal["paths"] = 1
kept = DecodeMemory(fragmented, paths, slots, journal)
window = Window(segments, 4)
interfaces = np.zeros(KEPT_INTERFACES, INTERFACE_DTYPE)
walkers = {}

cdef SegmentRecord[::1] segment_view = segments
cdef Tally[::1] tally_view = tally
cdef Fragmented[::1] fragmented_view = fragmented
cdef uint32_t[::1] slots_view = slots
cdef Journal[::1] journal_view = journal
cdef PathRecord[::1] paths_view = paths
cdef Memory memory
memory.fragmented, memory.n_fragmented = &fragmented_view[0], 8
memory.paths, memory.n_paths = &paths_view[0], 16
memory.slots, memory.n_slots = &slots_view[0], 16
memory.journal = &journal_view[0]


cdef int64_t now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return time.tv_sec * <int64_t> 1000000000 + time.tv_nsec


cdef void forget() noexcept nogil:
    cdef int i
    for i in range(8):
        fragmented_view[i].arrival = 0
    memset(&slots_view[0], 0, 16 * sizeof(uint32_t))
    memset(&journal_view[0], 0, sizeof(Journal))
    journal_view[0].paths = 1


cdef void must(bint right, const char *what) noexcept nogil:
    if not right:
        fprintf(stderr, "not so: %s\n", what)
        abort()


cdef int frames(const uint8_t *data, size_t size) noexcept nogil:
    cdef int64_t began = now()
    cdef size_t at = 1, length
    cdef uint8_t *frame
    cdef uint32_t link_type
    cdef int outcome
    cdef SegmentRecord *segment = &segment_view[0]
    if size < 2:
        return 0
    forget()
    link_type = links[data[0] & 63]
    while at < size:
        length = data[at]
        at += 1
        if length > size - at:
            length = size - at
        frame = <uint8_t *> malloc(length if length else 1)
        memcpy(frame, data + at, length)
        segment.ts_ns = <int64_t> at * 1000000000
        # With the highest bit of the first byte set, the wire had more than was captured.
        outcome = decode_frame(
            frame, <uint32_t> length, <uint32_t> length + (40 if data[0] >> 7 else 0), link_type, segment, &memory
        )
        free(frame)
        must(0 <= outcome < OUTCOMES, b"an outcome that there is")
        if outcome == 0:
            must(segment.ip_version == 4 or segment.ip_version == 6, b"IP of version 4 or 6")
            must(segment.window_scale <= 14 or segment.window_scale == 255, b"a window scale up to 14")
            must(segment.flags < 512, b"nine flags")
            must(segment.path < journal_view[0].paths or segment.path == 65535, b"a path that there is")
        at += length
    must(now() - began < MOST_NS, b"done in time")
    return 0


cdef object walker_of(const uint8_t[::1] data):
    # And where it begins. Layouts that were met are kept; what capture/pcap.py looks at more closely is its own test's.
    head = bytes(data[:24])
    if head[:4] == b"\n\r\r\n":
        walker = PcapngWalker(segments, tally, counts, kept)
        walker.use_interfaces(interfaces, KEPT_INTERFACES)
        return walker, 0
    if len(head) < 24:
        return None, 0
    order = "little" if int.from_bytes(head[:4], "little") in PCAP_MAGICS else "big"
    _, header, record = PCAP_MAGICS.get(int.from_bytes(head[:4], order), (0, 16, 0))
    key = head[:8] + head[20:24] if record else head[12:16]
    if key not in walkers:
        if len(walkers) == 4096:
            walkers.clear()
        link = int.from_bytes(head[20:24], order)
        fraction, minor = PCAP_MAGICS.get(int.from_bytes(head[:4], order), (1, 0, 0))[0], head[6] % 5
        fields = (order == "big", record + 4 * (head[4] % 4), fraction, minor % 3, link & 0xFFFF, link >> 28, 262144, 0)
        walkers[key] = (
            PcapWalker(np.array([fields], PCAP_LAYOUT_DTYPE), segments, tally, counts, kept)
            if record else SnoopWalker(int.from_bytes(key, "big"), segments, tally, counts, kept)
        )
    return walkers[key], header


def read(const uint8_t[::1] data):
    """Walk to the end of one capture; frames and segments are counted in `tally` and `counts`."""
    cdef uint64_t size = data.shape[0]
    cdef uint64_t most = 2 * size + 64
    walker, position = walker_of(data)
    if walker is None or position > size:
        return
    told, held = False, 0
    while most:
        most -= 1
        if told:
            stop, position, rows, _ = walker.walk(data, position, size, held, True)
        else:
            stop, position, rows, _ = walker.walk(data, position, size, held)
        told = stop == WORDS
        if stop == OUTPUT_FULL or stop == MORE_INPUT:
            window.arrange(held, rows)
            held = 4 if rows == ROWS else 0
            window.keep(rows - held, rows)
        if stop == NO_ROOM:
            room = 2 * (walker.n_interfaces + walker.n_kept + 1)
            walker.use_interfaces(np.zeros(room, INTERFACE_DTYPE), KEPT_INTERFACES)
        elif stop != OUTPUT_FULL and stop != WORDS:
            return
    raise RuntimeError("no end")


cdef int capture(const uint8_t *data, size_t size) noexcept with gil:
    cdef int64_t began = now()
    cdef uint64_t before
    if size == 0:
        return 0
    forget()
    before = tally_view[0].frames
    tally_view[0].previous_ts_ns = NO_TIME
    try:
        read(<const uint8_t[:size]> data)
        assert tally_view[0].frames - before <= size, "more frames than bytes"
    except BaseException as error:
        said = repr(error).encode()
        must(False, said)
    must(now() - began < MOST_NS, b"done in time")
    return 0


cdef int canary(const uint8_t *data, size_t size) noexcept nogil:
    # A byte too many is read of one input in 256: what must be found.
    cdef volatile uint8_t beyond = data[size] if size and data[0] == 0xC7 else 0
    frames(data, size)
    return beyond & 0


def run(target, arguments):
    """Hand over to libFuzzer; it ends the process. `target` is one of the functions above, `arguments` libFuzzer's."""
    kept_arguments = [b"fuzz_target", *(argument.encode() for argument in arguments)]
    cdef int n = len(kept_arguments)
    cdef char **given = <char **> malloc((n + 1) * sizeof(char *))
    for i in range(n):
        given[i] = kept_arguments[i]
    given[n] = NULL
    tally["first_ts_ns"], tally["last_ts_ns"] = LAST_TIME_NS, -LAST_TIME_NS
    if target == "canary":
        return LLVMFuzzerRunDriver(&n, &given, canary)
    if target == "frames":
        return LLVMFuzzerRunDriver(&n, &given, frames)
    return LLVMFuzzerRunDriver(&n, &given, capture)
